//! Who is at the other end of a connection, and whether a request comes from a page of this server. Pure.
//!
//! What headers say of addresses is believed of a trusted proxy alone. Names are what DNS rebinding lies about: a
//! page that has its own name lead to the loopback still says that name in `Host`, and is no local caller for it.

use std::net::IpAddr;

use axum::http::header::{FORWARDED, HOST, ORIGIN, VIA};
use axum::http::{HeaderMap, HeaderName, Uri, Version};
use ipnet::IpNet;

pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Proxies in a row whose word is read; behind that, whoever sent the request may have made them up.
const MOST_PROXIES: usize = 16;

/// How connections reach the listener.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Approach {
    /// The listener itself speaks TLS.
    pub tls: bool,
    /// Whose word on addresses is believed; empty where there is no proxy.
    pub proxies: Vec<IpNet>,
}

impl Approach {
    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }
}

/// A listener that is not encrypted itself is for its proxies alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0} is none of [http] trusted_proxies, and this port is for them: ask by the proxy's address"
)]
pub struct NoProxy(IpAddr);

/// Who sent a request, as far as that can be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// What the browser speaks is encrypted.
    pub secure: bool,
    /// What it calls this server: name or address, with the port where it says one.
    pub host: Option<String>,
    /// Something says that others stand between.
    is_forwarded: bool,
}

impl Peer {
    pub fn of(
        connected: IpAddr,
        (version, uri, headers): (Version, &Uri, &HeaderMap),
        approach: &Approach,
    ) -> Result<Peer, NoProxy> {
        let connected = connected.to_canonical();
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let named = uri.authority().map(|authority| authority.as_str()).or_else(|| text(&HOST));
        // Proxies speak HTTP/1.0 to what is behind them unless told otherwise, and may well say nothing of it.
        let is_forwarded = version != Version::HTTP_11
            || [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REAL_IP, FORWARDED, VIA]
                .iter()
                .any(|name| headers.contains_key(name));
        let direct = Peer {
            address: connected,
            secure: approach.tls,
            host: named.map(str::to_ascii_lowercase),
            is_forwarded,
        };
        match (approach.proxies.is_empty(), approach.trusts(connected)) {
            (true, _) => Ok(direct),
            (false, false) if approach.tls => Ok(direct),
            (false, false) => Err(NoProxy(connected)),
            (false, true) => {
                let host = text(&FORWARDED_HOST).map(|host| host.trim().to_ascii_lowercase());
                let encrypted = last_of(headers, &FORWARDED_PROTO);
                Ok(Peer {
                    address: behind_proxies(headers, connected, approach),
                    secure: encrypted.is_some_and(|word| word.eq_ignore_ascii_case("https")),
                    host: host.or(direct.host),
                    is_forwarded: true,
                })
            }
        }
    }

    /// Somebody on this machine, at this machine's own address, with nobody between.
    pub fn is_local(&self) -> bool {
        let named = self.host.as_deref().map(without_port);
        let own_name = named.is_some_and(|name| {
            let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        });
        self.address.is_loopback() && own_name && !self.is_forwarded
    }

    /// Whether a browser says that a page of another site sent this. What is no browser says nothing, and is
    /// nobody's tool.
    pub fn is_foreign(&self, headers: &HeaderMap) -> bool {
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        let from_site = text(&FETCH_SITE);
        // Another port of the same name is the same site, and somebody else.
        if from_site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return true;
        }
        text(&ORIGIN).is_some_and(|origin| !self.is_own(origin))
    }

    fn is_own(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let (default_port, fits) = match scheme {
            "https" => (":443", true),
            // What is encrypted here was never served as this.
            "http" => (":80", !self.secure),
            _ => return false,
        };
        let plain = |authority: &str| {
            let lower = authority.to_ascii_lowercase();
            lower.strip_suffix(default_port).map_or(lower.clone(), str::to_owned)
        };
        fits && self.host.as_deref().is_some_and(|host| plain(host) == plain(authority))
    }
}

/// The nearest address that is no trusted proxy: everything before it may be made up.
fn behind_proxies(headers: &HeaderMap, connected: IpAddr, approach: &Approach) -> IpAddr {
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let hops = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    let mut nearest = connected;
    for hop in hops.take(MOST_PROXIES) {
        let Some(address) = address_of(hop.trim()) else { break };
        nearest = address;
        if !approach.trusts(address) {
            break;
        }
    }
    nearest
}

/// `192.0.2.1`, `192.0.2.1:1234`, `2001:db8::1`, `[2001:db8::1]:1234`
fn address_of(text: &str) -> Option<IpAddr> {
    let socket = || text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(socket).map(|address: IpAddr| address.to_canonical())
}

/// What the nearest proxy says.
fn last_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next().map(str::trim)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if (name.ends_with(']') || !name.contains(':')) && !port.ends_with(']') =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1";

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn peer(connected: &str, lines: &[(HeaderName, &str)], approach: &Approach) -> Peer {
        let (connected, headers) = (connected.parse().unwrap(), headers(lines));
        Peer::of(connected, (Version::HTTP_11, &Uri::from_static("/"), &headers), approach).unwrap()
    }

    fn proxied() -> Approach {
        let proxies = ["127.0.0.0/8", "10.0.0.0/24"].map(|network| network.parse().unwrap());
        Approach { tls: false, proxies: proxies.to_vec() }
    }

    #[test]
    fn only_this_machine_at_its_own_address_is_local() {
        let bare = Approach::default();
        for host in ["127.0.0.1:8480", "localhost:8480", "LOCALHOST", "[::1]:8480", "127.3.2.1"] {
            assert!(peer(LOOPBACK, &[(HOST, host)], &bare).is_local(), "{host}");
            assert!(peer("::ffff:127.0.0.1", &[(HOST, host)], &bare).is_local(), "{host}");
            assert!(!peer("192.0.2.1", &[(HOST, host)], &bare).is_local(), "{host}");
        }
        // Its name leads here, but it is somebody's page that asks.
        for host in
            ["evil.example:8480", "localhost.evil.example", "127.0.0.1.evil.example", "", "::2"]
        {
            assert!(!peer(LOOPBACK, &[(HOST, host)], &bare).is_local(), "{host}");
        }
        assert!(!peer(LOOPBACK, &[], &bare).is_local());
    }

    #[test]
    fn what_came_through_a_proxy_is_not_local() {
        let host = (HOST, "127.0.0.1:8480");
        let said = [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REAL_IP, FORWARDED, VIA];
        for header in said {
            let lines = [host.clone(), (header.clone(), LOOPBACK)];
            assert!(!peer(LOOPBACK, &lines, &Approach::default()).is_local(), "{header}");
            assert!(!peer(LOOPBACK, &lines, &proxied()).is_local(), "{header}");
        }
        let old = (Version::HTTP_10, &Uri::from_static("/"), &headers(&[host]));
        let old = Peer::of(LOOPBACK.parse().unwrap(), old, &Approach::default()).unwrap();
        assert!(!old.is_local());
    }

    #[test]
    fn a_trusted_proxy_says_whom_it_asks_for_and_nobody_else_does() {
        let lines = [
            (HOST, "10.0.0.9:8480"),
            (FORWARDED_FOR, "6.6.6.6, 192.0.2.7"),
            (FORWARDED_FOR, "10.0.0.3"),
            (FORWARDED_PROTO, "https"),
            (FORWARDED_HOST, "Gapless.example"),
        ];
        let through = peer(LOOPBACK, &lines, &proxied());
        assert_eq!(through.address.to_string(), "192.0.2.7");
        assert_eq!((through.secure, through.host.as_deref()), (true, Some("gapless.example")));
        let direct = peer("192.0.2.1", &lines, &Approach::default());
        assert_eq!(direct.address.to_string(), "192.0.2.1");
        assert_eq!((direct.secure, direct.host.as_deref()), (false, Some("10.0.0.9:8480")));
        let with_tls = Approach { tls: true, ..proxied() };
        assert_eq!(peer("192.0.2.1", &lines, &with_tls).address.to_string(), "192.0.2.1");
    }

    #[test]
    fn a_port_that_is_for_proxies_answers_nobody_else() {
        let headers = headers(&[(HOST, "10.0.0.9:8480")]);
        let request = (Version::HTTP_11, &Uri::from_static("/"), &headers);
        let refused = Peer::of("192.0.2.1".parse().unwrap(), request, &proxied()).unwrap_err();
        assert!(refused.to_string().contains("192.0.2.1"), "{refused}");
    }

    #[test]
    fn addresses_are_read_in_all_ways_in_which_proxies_write_them() {
        for (text, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:99", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:99", Some("2001:db8::1")),
            ("unknown", None),
        ] {
            let read = address_of(text).map(|address| address.to_string());
            assert_eq!(read.as_deref(), address, "{text}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_foreign_and_programs_are_not() {
        let own = peer("192.0.2.1", &[(HOST, "gapless.example:8480")], &Approach::default());
        let origin = |text: &str| own.is_foreign(&headers(&[(ORIGIN, text)]));
        assert!(!own.is_foreign(&HeaderMap::new()));
        assert!(!origin("http://gapless.example:8480") && !origin("http://Gapless.Example:8480"));
        for foreign in [
            "null",
            "http://evil.example:8480",
            "http://gapless.example",
            "http://gapless.example:8481",
            "http://gapless.example:8480.evil.example",
            "file://",
        ] {
            assert!(origin(foreign), "{foreign}");
        }
        let site = |word: &str| own.is_foreign(&headers(&[(FETCH_SITE, word)]));
        assert!(!site("same-origin") && !site("none"));
        assert!(site("cross-site") && site("same-site") && site("anything"));
    }

    #[test]
    fn a_default_port_may_be_left_out_and_encrypted_pages_are_never_plain() {
        let tls = Approach { tls: true, ..Approach::default() };
        let own = peer("192.0.2.1", &[(HOST, "gapless.example:443")], &tls);
        assert!(!own.is_foreign(&headers(&[(ORIGIN, "https://gapless.example")])));
        assert!(own.is_foreign(&headers(&[(ORIGIN, "http://gapless.example:443")])));
        let plain = peer("192.0.2.1", &[(HOST, "gapless.example")], &Approach::default());
        assert!(!plain.is_foreign(&headers(&[(ORIGIN, "http://gapless.example:80")])));
    }
}
