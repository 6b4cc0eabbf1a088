"""The parts that cloud-init finds in user data, by Python's own parser: the reference for agent/config/mime.ts and userdata.ts.

Standard input: a JSON list of user data in base64. Standard output: for each a list of its parts, with `type`, `file` and
`text` (base64), or null where cloud-init ends with an exception.

cloud-init's own modules need half a dozen packages, so its rules are written out here. Source: canonical/cloud-init,
cloudinit/user_data.py (convert_string, is_skippable, UserDataProcessor._process_msg and _explode_archive), cloudinit/util.py
(decomp_gzip, fully_decoded_payload), cloudinit/handlers/__init__.py (type_from_starts_with), as of 22.4 in Debian 12.
The URLs of #include are not fetched, and an archive stays one part.
"""
import base64
import email
import gzip
import json
import sys

# cloudinit/user_data.py
TYPE_NEEDED = ["text/plain", "text/x-not-multipart", "text/x-shellscript"]
DECOMP_TYPES = [
    "application/gzip",
    "application/gzip-compressed",
    "application/gzipped",
    "application/x-compress",
    "application/x-compressed",
    "application/x-gunzip",
    "application/x-gzip",
    "application/x-gzip-compressed",
]
# cloudinit/handlers/__init__.py
STARTS = {
    "#include": "text/x-include-url",
    "#include-once": "text/x-include-once-url",
    "#!": "text/x-shellscript",
    "#cloud-config": "text/cloud-config",
    "#part-handler": "text/part-handler",
    "#cloud-boothook": "text/cloud-boothook",
    "#cloud-config-archive": "text/cloud-config-archive",
    "#cloud-config-jsonp": "text/cloud-config-jsonp",
    "## template: jinja": "text/jinja2",
}


def unzip(data):
    try:
        return gzip.decompress(data)
    except Exception:
        return data


def type_of(declared, payload):
    if declared not in TYPE_NEEDED:
        return declared
    try:
        start = payload.decode().lower().lstrip()
    except UnicodeDecodeError:
        return declared
    for text in sorted(STARTS, key=len, reverse=True):
        if start.startswith(text):
            return STARTS[text]
    return declared


def parts_of(data):
    data = unzip(data)
    if b"mime-version:" not in data[0:4096].lower():
        return [("text/x-not-multipart", None, data)]
    found = []
    for part in email.message_from_string(data.decode("utf-8")).walk():
        if part.get_content_maintype() == "multipart" or part.is_multipart():
            continue
        declared = part.get_content_type()
        payload = part.get_payload(decode=True)
        if declared in DECOMP_TYPES:
            declared, payload = "text/plain", gzip.decompress(payload)
        found.append((declared, part.get_filename(), payload))
    return found


def read(data):
    try:
        return [
            {"type": type_of(declared, payload), "file": file, "text": base64.b64encode(payload).decode()}
            for declared, file, payload in parts_of(data)
        ]
    except Exception:
        return None


json.dump([read(base64.b64decode(one)) for one in json.load(sys.stdin)], sys.stdout)
