//! Where a request comes from: the socket's address, or what a trusted proxy says of it.
//!
//! Anybody can write `X-Forwarded-For`; it is believed only as far as the hops that wrote it are in
//! `http.trusted_proxies`. Pure: addresses and headers in, an address out.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use axum::http::{HeaderMap, HeaderName, header::FORWARDED};
use serde::{Deserialize, Serialize};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Hops looked at, from the right; what lies further left is not believed. Real chains have two or three.
pub const MAX_HOPS: usize = 16;

/// A network: an address, or a CIDR block such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    /// Leading bits that count: at most 32 or 128.
    prefix: u32,
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address or a CIDR block such as 10.0.0.0/8")]
pub struct NetworkError;

impl Network {
    /// Whether `address` lies in it. An IPv4 address written as IPv6 (`::ffff:a.b.c.d`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, bits) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (ours.to_bits().into(), theirs.to_bits().into(), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits(), 128),
            _ => return false,
        };
        let differing: u128 = ours ^ theirs;
        // A prefix of 0 leaves all bits out: shifting 128 bits by 128 is not defined, hence `checked`.
        differing.checked_shr(bits - self.prefix).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| NetworkError)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        match prefix.unwrap_or(bits) {
            prefix if prefix <= bits => Ok(Self { address, prefix }),
            _ => Err(NetworkError),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> String {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The client's address: the peer's, unless the peer is a trusted proxy. Then it is the right-most entry of
/// `X-Forwarded-For` or `Forwarded` (RFC 7239) that is not a trusted proxy itself.
///
/// Where both headers are there and disagree, one of them is the client's own invention that the proxy passed on, and
/// nobody knows which: neither is believed. An entry that is not an address (`unknown`, `_hidden`) ends the walk at the
/// hop before it.
pub fn client_address(peer: SocketAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let peer = peer.ip().to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let walk = |entries: &mut dyn Iterator<Item = Option<IpAddr>>| {
        let mut known = peer;
        for entry in entries.take(MAX_HOPS) {
            let Some(address) = entry else { break };
            known = address;
            if !is_trusted(address) {
                break;
            }
        }
        known
    };
    let by_x = walk(&mut entries(headers, &X_FORWARDED_FOR).map(address));
    let by_rfc = walk(&mut entries(headers, &FORWARDED).map(forwarded_for));
    match (headers.contains_key(&X_FORWARDED_FOR), headers.contains_key(FORWARDED)) {
        (true, true) if by_x != by_rfc => peer,
        (true, _) => by_x,
        (false, _) => by_rfc,
    }
}

/// A list header's entries, the last first, over all its lines.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    // A line that is not text is one entry that is no address.
    lines.into_iter().rev().flat_map(|line| line.to_str().unwrap_or("?").rsplit(',').map(str::trim))
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let value = element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    address(value.trim_matches('"'))
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &'static str)], trusted: &[&str]) -> String {
        let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        client_address(SocketAddr::new(peer.parse().unwrap(), 1234), &map, &trusted).to_string()
    }

    #[test]
    fn networks_contain_their_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/25", "192.0.2.127", "192.0.2.128"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("::/0", "2001:db8::1", "203.0.113.9"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/-1", "example.com", "10.0.0.0/"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError), "{bad}");
        }
    }

    #[test]
    fn a_stranger_is_who_the_socket_says() {
        let said = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")];
        assert_eq!(client("203.0.113.9", &said, &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &said, &[]), "203.0.113.9");
        assert_eq!(client("::ffff:203.0.113.9", &[], &[]), "203.0.113.9");
    }

    #[test]
    fn a_trusted_proxy_names_its_client() {
        let trusted = ["10.0.0.0/8", "2001:db8::/32"];
        let x = |value| client("10.0.0.1", &[("x-forwarded-for", value)], &trusted);
        assert_eq!(x("203.0.113.9"), "203.0.113.9");
        // The client's own invention stands to the left of what the proxy wrote.
        assert_eq!(x("1.2.3.4, 203.0.113.9"), "203.0.113.9");
        assert_eq!(x("1.2.3.4, 203.0.113.9, 10.0.0.7"), "203.0.113.9");
        assert_eq!(x("203.0.113.9:4711"), "203.0.113.9");
        assert_eq!(x("[2001:dead::1]:80"), "2001:dead::1");
        assert_eq!(x("10.0.0.3"), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[], &trusted), "10.0.0.1");
        let rfc = |value| client("10.0.0.1", &[("forwarded", value)], &trusted);
        assert_eq!(rfc("for=1.2.3.4, For=\"[2001:dead::1]:80\";proto=https"), "2001:dead::1");
        assert_eq!(rfc("proto=https;for=203.0.113.9;by=10.0.0.1"), "203.0.113.9");
    }

    #[test]
    fn lines_of_a_header_are_one_list() {
        let lines = [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(client("10.0.0.1", &lines, &["10.0.0.1"]), "203.0.113.9");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        let trusted = ["10.0.0.0/8"];
        let x = |value| client("10.0.0.1", &[("x-forwarded-for", value)], &trusted);
        assert_eq!(x("1.2.3.4, unknown, 10.0.0.7"), "10.0.0.7");
        assert_eq!(x(""), "10.0.0.1");
        assert_eq!(x(",,,"), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[("forwarded", "for=_hidden")], &trusted), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[("forwarded", "by=1.2.3.4")], &trusted), "10.0.0.1");
    }

    #[test]
    fn two_headers_that_disagree_are_both_disbelieved() {
        let said = |x, rfc| client("10.0.0.1", &[("x-forwarded-for", x), ("forwarded", rfc)], &["10.0.0.1"]);
        assert_eq!(said("203.0.113.9", "for=203.0.113.9"), "203.0.113.9");
        assert_eq!(said("203.0.113.9", "for=1.2.3.4"), "10.0.0.1");
    }

    #[test]
    fn a_long_chain_is_not_walked_to_its_end() {
        let chain: &'static str = "10.0.0.2,".repeat(10_000).leak();
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", chain)], &["10.0.0.0/8"]), "10.0.0.1");
        let chain: &'static str = ["1.2.3.4", &["10.0.0.2"; MAX_HOPS].join(",")].join(",").leak();
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", chain)], &["10.0.0.0/8"]), "10.0.0.2");
    }
}
