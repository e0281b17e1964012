//! What a client offers in its DTLS ClientHello, of that which we want to choose, read before `rtc` sees it.
//!
//! `rtc` follows the client's order. Browsers put the costlier SRTP profile with SHA-1 first, others the costlier curve.
//! So we look here whether the client has what is cheaper, and if so, offer nothing else.

/// DTLS's record and handshake headers (RFC 6347, 4.1 and 4.2.2), and the messages in them that matter.
const RECORD_HEADER: usize = 13;
const FRAGMENT_HEADER: usize = 12;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The `supported_groups` extension (RFC 8422, 5.1.1).
const GROUPS: u16 = 10;
/// The `use_srtp` extension (RFC 5764, 4.1.1).
const USE_SRTP: u16 = 14;
/// The largest ClientHello read; a browser's is under 2 KB.
const MAX_HELLO: usize = 8 << 10;

/// SRTP_AEAD_AES_128_GCM (RFC 7714, 14.2).
const GCM: u16 = 7;
/// The group x25519 (RFC 8422, 5.1.1).
const X25519: u16 = 29;

/// What of that which is cheaper a client has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offered {
    /// SRTP with AES-GCM rather than with SHA-1: a third of the cost of each packet.
    pub(crate) gcm: bool,
    /// The key exchange over Curve25519 rather than over P-256: half of the cost.
    pub(crate) x25519: bool,
}

/// What the ClientHello in these datagrams offers; `None` while parts of it are missing. A hello that can't be read
/// offers nothing.
pub(crate) fn offered(datagrams: &[Vec<u8>]) -> Option<Offered> {
    let hello = reassemble(datagrams)?;
    let mut offered = Offered::default();
    let _ = read(&hello, &mut offered);
    Some(offered)
}

/// Puts the fragments of the first handshake message together.
fn reassemble(datagrams: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut hello = Vec::new();
    let mut known: Vec<bool> = Vec::new();
    for fragment in datagrams.iter().flat_map(|datagram| fragments(datagram)) {
        if known.is_empty() {
            hello.resize(fragment.total, 0);
            known.resize(fragment.total, false);
        }
        let range = fragment.offset..fragment.offset + fragment.body.len();
        if fragment.total != known.len() || range.end > known.len() {
            continue;
        }
        hello[range.clone()].copy_from_slice(fragment.body);
        known[range].fill(true);
    }
    (!known.is_empty() && known.iter().all(|known| *known)).then_some(hello)
}

struct Fragment<'a> {
    total: usize,
    offset: usize,
    body: &'a [u8],
}

/// The fragments of a ClientHello with message sequence 0 in one datagram. Later sequences are repeats after a cookie,
/// which `rtc` does not ask for.
fn fragments(datagram: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = rest.get(..RECORD_HEADER)?;
        let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
        let record = rest.get(RECORD_HEADER..RECORD_HEADER + length)?;
        rest = &rest[RECORD_HEADER + length..];
        Some((header[0], record))
    })
    .filter_map(|(kind, record)| {
        let [message, t0, t1, t2, 0, 0, o0, o1, o2, l0, l1, l2, ..] = record else { return None };
        let number = |bytes: [u8; 3]| bytes.into_iter().fold(0, |n, byte| n << 8 | usize::from(byte));
        let (total, offset) = (number([*t0, *t1, *t2]), number([*o0, *o1, *o2]));
        let body = record.get(FRAGMENT_HEADER..FRAGMENT_HEADER + number([*l0, *l1, *l2]))?;
        let wanted = kind == HANDSHAKE && *message == CLIENT_HELLO && (1..=MAX_HELLO).contains(&total);
        wanted.then_some(Fragment { total, offset, body })
    })
}

fn read(hello: &[u8], offered: &mut Offered) -> Option<()> {
    let mut reader = Reader(hello);
    reader.take(2 + 32)?; // version, random
    reader.short_vector()?; // session id
    reader.short_vector()?; // cookie
    reader.vector()?; // cipher suites
    reader.short_vector()?; // compression methods
    let mut extensions = Reader(reader.vector()?);
    while let Some(kind) = extensions.number() {
        let mut body = Reader(extensions.vector()?);
        match kind {
            USE_SRTP => offered.gcm = body.vector()?.chunks_exact(2).any(|two| two == GCM.to_be_bytes()),
            GROUPS => offered.x25519 = body.vector()?.chunks_exact(2).any(|two| two == X25519.to_be_bytes()),
            _ => {}
        }
    }
    Some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }

    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(profiles: &[u16], groups: &[u16]) -> Vec<u8> {
        let mut hello = vec![0xFE, 0xFD];
        hello.extend([7; 32]);
        hello.extend([0, 0]); // no session id, no cookie
        hello.extend([0, 2, 0xC0, 0x2B, 1, 0]);
        let numbers = |list: &[u16]| list.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
        let mut extensions = vec![0, 23, 0, 0]; // extended_master_secret
        let list = numbers(groups);
        extensions.extend([0, 10, 0, list.len() as u8 + 2, 0, list.len() as u8]);
        extensions.extend(list);
        let list = numbers(profiles);
        extensions.extend([0, 14, 0, list.len() as u8 + 3, 0, list.len() as u8]);
        extensions.extend(list);
        extensions.push(0); // no MKI
        hello.extend([0, extensions.len() as u8]);
        hello.extend(extensions);
        hello
    }

    fn record(hello: &[u8], offset: usize, length: usize) -> Vec<u8> {
        let three = |n: usize| [(n >> 16) as u8, (n >> 8) as u8, n as u8];
        let mut record = vec![HANDSHAKE, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend((FRAGMENT_HEADER as u16 + length as u16).to_be_bytes());
        record.push(CLIENT_HELLO);
        record.extend(three(hello.len()));
        record.extend([0, 0]);
        record.extend(three(offset));
        record.extend(three(length));
        record.extend(&hello[offset..offset + length]);
        record
    }

    const BOTH: Option<Offered> = Some(Offered { gcm: true, x25519: true });

    #[test]
    fn what_is_offered_is_found_anywhere_in_its_list() {
        let of = |profiles: &[u16], groups: &[u16]| {
            let hello = hello(profiles, groups);
            offered(&[record(&hello, 0, hello.len())])
        };
        assert_eq!(of(&[1, GCM], &[23, X25519, 24]), BOTH);
        assert_eq!(of(&[GCM], &[23]), Some(Offered { gcm: true, x25519: false }));
        assert_eq!(of(&[1], &[X25519]), Some(Offered { gcm: false, x25519: true }));
        assert_eq!(of(&[], &[]), Some(Offered::default()));
    }

    #[test]
    fn fragments_may_come_in_any_order_and_twice() {
        let hello = hello(&[GCM], &[X25519]);
        let (first, second) = (record(&hello, 0, 30), record(&hello, 30, hello.len() - 30));
        assert_eq!(offered(&[second.clone(), second.clone()]), None, "the beginning is missing");
        assert_eq!(offered(&[second.clone(), first.clone()]), BOTH);
        assert_eq!(offered(&[[first, second].concat()]), BOTH, "two records in one datagram");
    }

    #[test]
    fn what_is_no_hello_is_none_and_one_without_the_extensions_offers_nothing() {
        assert_eq!(offered(&[]), None);
        assert_eq!(offered(&[vec![HANDSHAKE; 40]]), None);
        let bare = [&[0xFE, 0xFD][..], &[0; 32], &[0, 0, 0, 0, 1, 0, 0, 0]].concat();
        assert_eq!(offered(&[record(&bare, 0, bare.len())]), Some(Offered::default()));
    }

    #[test]
    fn bent_hellos_do_not_panic() {
        let hello = hello(&[1, GCM], &[23, X25519]);
        let whole = record(&hello, 0, hello.len());
        for at in 0..whole.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut bent = whole.clone();
                bent[at] = value;
                let _ = offered(&[bent]);
            }
            let _ = offered(&[whole[..at].to_vec()]);
        }
    }
}
