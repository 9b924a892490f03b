import { expect, it } from 'vitest'
import { readAddress } from '../../../src/webhooks/address.ts'

const refused = (url: string) => 'fault' in readAddress(url, { allowPrivate: false })

it.each([
  ['as four numbers', '127.0.0.1'],
  ['in short forms', '127.1', '127.0.1', '10.1', '192.168.257'],
  ['in decimal', '2130706433', '3232235777', '2852039166', '0'],
  ['in octal', '0177.0.0.1', '017700000001', '0300.0250.0.1'],
  ['in hex', '0x7f.0.0.1', '0x7f000001', '0xA9FEA9FE', '0x7f.1'],
  ['in mixed bases', '0x7f.0.01.1', '192.0250.0x1'],
  ['in other digits and dots', '１２７.0.0.1', '①②⑦.0.0.1', '127。0。0。1', '127．0．0．1'],
  ['percent-encoded', '%31%32%37.0.0.1', '127%2e0%2e0%2e1', '%6cocalhost', 'loc%61lhost'],
  ['with a trailing dot', '127.0.0.1.', '2130706433.'],
  ['of a private network', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.0.1', '100.64.0.1'],
  ['of this network or link', '0.0.0.0', '0.1.2.3', '169.254.169.254', '255.255.255.255', '224.0.0.1'],
  [
    'reserved',
    '192.0.0.1',
    '192.0.2.1',
    '192.88.99.1',
    '198.18.0.1',
    '198.51.100.1',
    '203.0.113.1',
    '240.0.0.1',
  ],
  [
    'in IPv6',
    '[::1]',
    '[::]',
    '[0:0:0:0:0:0:0:1]',
    '[0000::0001]',
    '[fe80::1]',
    '[fc00::1]',
    '[fd12:3456::1]',
  ],
  [
    'in IPv6 by multicast or site',
    '[ff02::1]',
    '[fec0::1]',
    '[100::1]',
    '[2001:db8::1]',
    '[3fff::1]',
    '[5f00::1]',
  ],
  ['mapped into IPv6', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[::FFFF:10.0.0.1]', '[::ffff:8.8.8.8]'],
  ['compatible with IPv4', '[::127.0.0.1]', '[::7f00:1]', '[::10.0.0.1]'],
  ['translated', '[::ffff:0:127.0.0.1]', '[64:ff9b::127.0.0.1]', '[64:ff9b::7f00:1]', '[64:ff9b:1::a00:1]'],
  ['through a tunnel', '[2002:7f00:1::]', '[2002:0a00:0001::1]', '[2001::1]', '[2001:0:7f00:1::]'],
  ['with a zone', '[fe80::1%25eth0]', '[fe80::1%eth0]', '[::1%25lo]'],
  ['as a name', 'localhost', 'LocalHost', 'localhost.', 'a.localhost', 'a.localhost.', 'ｌｏｃａｌｈｏｓｔ'],
  [
    'as a name of a local network',
    'printer.local',
    'db.internal',
    'metadata.google.internal',
    'nas.home.arpa',
  ],
  ['as a name of one label', 'intranet', 'local', 'internal', 'metadata'],
  ['with empty labels', 'a..b', 'example.com.', 'example.com..', '.example.com'],
])('a local address %s is refused', (_, ...hosts) => {
  for (const host of hosts) {
    for (const url of [
      `https://${host}/`,
      `https://${host}:8443/hook`,
      ` HTTPS://${host}/ `,
      `https:\\\\${host}/`,
    ]) {
      expect(refused(url), url).toBe(true)
    }
  }
})

it('other schemes, credentials, addresses that are too long and texts that are not an address are refused', () => {
  for (const url of [
    'http://example.com',
    'ftp://example.com',
    'file:///etc/passwd',
    'javascript:alert(1)',
    'data:text/plain,x',
    'wss://example.com',
    'https://user@example.com',
    'https://user:pass@example.com',
    'https://:pass@example.com',
    'https://example.com@127.0.0.1/',
    'https://',
    'https:///',
    'https://exa mple.com',
    'https://[::1',
    'https://1.2.3.4.5',
    'https://256.1.1.1',
    'https://example.com:99999',
    'example.com/hook',
    '//example.com',
    '',
    `https://example.com/${'x'.repeat(2029)}`,
    `https://example.com/${'ü'.repeat(400)}`,
  ]) {
    expect(refused(url), url).toBe(true)
  }
})

it.each([
  ['https://example.com', 'https://example.com/'],
  ['https://EXAMPLE.com:443/Hook?token=1#part', 'https://example.com/Hook?token=1'],
  ['https://hooks.example.co.uk:8443/a%20b', 'https://hooks.example.co.uk:8443/a%20b'],
  ['https://bücher.example/hook', 'https://xn--bcher-kva.example/hook'],
  ['https://1.1.1.1/hook', 'https://1.1.1.1/hook'],
  ['https://[2606:4700:4700::1111]/', 'https://[2606:4700:4700::1111]/'],
  ['https://localhost.example.com/', 'https://localhost.example.com/'],
  ['https://mylocal/', undefined],
  ['https://internal.example.com/', 'https://internal.example.com/'],
  ['https://example.com/http://127.0.0.1/', 'https://example.com/http://127.0.0.1/'],
])('the address %s is read as %s', (given, kept) => {
  expect(readAddress(given, { allowPrivate: false })).toEqual(
    kept === undefined ? { fault: expect.any(String) } : { url: kept },
  )
})

it('http and local addresses are taken if the installation allows them, but no credentials', () => {
  const local = { allowPrivate: true }
  for (const url of [
    'http://127.0.0.1:8080/',
    'http://localhost/',
    'https://[::1]/',
    'http://printer.local/',
  ]) {
    expect(readAddress(url, local)).toEqual({ url })
  }
  for (const url of ['ftp://localhost/', 'http://user:pass@localhost/', 'nonsense']) {
    expect('fault' in readAddress(url, local), url).toBe(true)
  }
})
