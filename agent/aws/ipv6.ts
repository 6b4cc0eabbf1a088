// EC2, IMDS and the kernel each write IPv6 in a form of their own; what is compared is brought into one first.
import ipaddr from 'ipaddr.js';

/** An address or CIDR in the form the kernel prints (RFC 5952); anything else as it is. */
export function canonical6(text: string): string {
  if (ipaddr.IPv6.isValid(text)) return ipaddr.IPv6.parse(text).toRFC5952String();
  if (!ipaddr.IPv6.isValidCIDR(text)) return text;
  const [address, length] = ipaddr.IPv6.parseCIDR(text);
  return `${address.toRFC5952String()}/${length}`;
}
