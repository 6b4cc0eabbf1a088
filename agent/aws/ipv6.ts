// EC2, IMDS and the kernel each write IPv6 addresses in a different form: values are brought into one form before they are
// compared.
import ipaddr from 'ipaddr.js';

/** An address or CIDR in the form that the kernel prints (RFC 5952); any other text unchanged. */
export function canonical6(text: string): string {
  if (ipaddr.IPv6.isValid(text)) return ipaddr.IPv6.parse(text).toRFC5952String();
  if (!ipaddr.IPv6.isValidCIDR(text)) return text;
  const [address, length] = ipaddr.IPv6.parseCIDR(text);
  return `${address.toRFC5952String()}/${length}`;
}
