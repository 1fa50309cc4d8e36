//! Over what the device reaches its broker: from which address of its own, on what kind of interface.
//!
//! The kernel is asked which address it would use, by connecting a datagram socket, which sends nothing. What
//! kind of interface has that address is read from sysfs and judged by [`Interface::kind`], which is pure. Nothing
//! depends on the answer but what a server is told, so that whatever cannot be read is left out.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use protocol::message::Network;

use crate::config::{BrokerUrl, LinkName};

/// For a name server to answer; it just did, or there would be no connection.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

const INTERFACES: &str = "/sys/class/net";

/// `ARPHRD_*` of Linux's `if_arp.h`.
const HARDWARE_ETHERNET: u16 = 1;
const HARDWARE_PPP: u16 = 512;
const HARDWARE_LOOPBACK: u16 = 772;

/// Where the broker is, by the first of its addresses that there is a way to.
pub async fn find(broker: &BrokerUrl) -> Option<SocketAddr> {
    // A name server that is slow must not keep the device from saying that it is there.
    let addresses = tokio::net::lookup_host(format!("{}:{}", broker.host, broker.port));
    let addresses = tokio::time::timeout(RESOLVE_TIMEOUT, addresses).await.ok()?.ok()?;
    addresses.into_iter().find(|address| own_address(*address).is_some())
}

/// As things are now.
pub fn look(broker: Option<SocketAddr>, link: &LinkName) -> Network {
    let address = broker.and_then(own_address);
    let link = match link {
        LinkName::Own(name) => name.clone(),
        LinkName::Auto => address.and_then(interface_with).map_or_else(String::new, |name| {
            let interface = Interface::read(Path::new(INTERFACES), &name);
            interface.kind().to_owned()
        }),
    };
    Network { link, address }
}

/// The address that the kernel would speak from.
fn own_address(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn interface_with(address: IpAddr) -> Option<String> {
    let has_it = getifaddrs().ok()?.find(|interface| {
        let its_own = interface.address.as_ref();
        its_own.is_some_and(|its_own| match address {
            IpAddr::V4(ip) => its_own.as_sockaddr_in().is_some_and(|own| own.ip() == ip),
            IpAddr::V6(ip) => its_own.as_sockaddr_in6().is_some_and(|own| own.ip() == ip),
        })
    });
    // An address may have a label of its own: `eth0:1` is on `eth0`.
    has_it?.interface_name.split(':').next().map(str::to_owned)
}

/// What the system says of an interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Interface {
    name: String,
    /// Its folder has the marks of a radio by 802.11.
    wireless: bool,
    /// Its `type`.
    hardware: Option<u16>,
    /// `DEVTYPE` of its `uevent`; empty where there is none.
    device_type: String,
}

impl Interface {
    fn read(interfaces: &Path, name: &str) -> Self {
        let folder = interfaces.join(name);
        let text = |file| fs::read_to_string(folder.join(file)).unwrap_or_default();
        let uevent = text("uevent");
        let device_type = uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
        Interface {
            name: name.to_owned(),
            wireless: ["wireless", "phy80211"].iter().any(|mark| folder.join(mark).exists()),
            hardware: text("type").trim().parse().ok(),
            device_type: device_type.unwrap_or_default().to_owned(),
        }
    }

    /// In the words of [`Network::link`], and `loopback`; empty where it is none of these, as of a tunnel.
    fn kind(&self) -> &'static str {
        let Interface { name, wireless, hardware, device_type } = self;
        let modem = ["ppp", "wwan", "rmnet"].iter().any(|prefix| name.starts_with(prefix));
        match (device_type.as_str(), *hardware) {
            ("wlan", _) => "wifi",
            _ if *wireless => "wifi",
            ("wwan", _) | (_, Some(HARDWARE_PPP)) => "cellular",
            _ if modem => "cellular",
            (_, Some(HARDWARE_LOOPBACK)) => "loopback",
            (_, Some(HARDWARE_ETHERNET)) => "ethernet",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn interface(name: &str, wireless: bool, hardware: u16, device_type: &str) -> Interface {
        let (name, device_type) = (name.to_owned(), device_type.to_owned());
        Interface { name, wireless, hardware: Some(hardware), device_type }
    }

    #[test]
    fn an_interface_is_told_by_what_the_system_says_of_it() {
        for (interface, expected) in [
            (interface("eth0", false, 1, ""), "ethernet"),
            (interface("enp3s0", false, 1, ""), "ethernet"),
            (interface("br0", false, 1, "bridge"), "ethernet"),
            (interface("wlan0", true, 1, "wlan"), "wifi"),
            // Drivers of many cameras have one of the marks, and a name of their own.
            (interface("ra0", true, 1, ""), "wifi"),
            (interface("mlan0", false, 1, "wlan"), "wifi"),
            // A modem that shows itself as an Ethernet card.
            (interface("usb0", false, 1, "wwan"), "cellular"),
            (interface("wwan0", false, 1, ""), "cellular"),
            (interface("wwan0", false, 65_534, "wwan"), "cellular"),
            (interface("rmnet_data0", false, 519, ""), "cellular"),
            (interface("ppp0", false, 512, ""), "cellular"),
            (interface("modem", false, 512, ""), "cellular"),
            (interface("lo", false, 772, ""), "loopback"),
            (interface("tun0", false, 65_534, ""), ""),
            (Interface { name: "gone".to_owned(), ..Interface::default() }, ""),
        ] {
            assert_eq!(interface.kind(), expected, "{interface:?}");
        }
    }

    #[test]
    fn what_the_system_says_is_read_and_what_it_does_not_say_is_left_out() {
        let system = tempfile::tempdir().unwrap();
        let radio = system.path().join("ra0");
        fs::create_dir_all(radio.join("phy80211")).unwrap();
        let write = |file: &str, text: &str| {
            let mut file = fs::File::create(radio.join(file)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write("type", "1\n");
        write("uevent", "DEVTYPE=wlan\nINTERFACE=ra0\nIFINDEX=3\n");
        assert_eq!(Interface::read(system.path(), "ra0"), interface("ra0", true, 1, "wlan"));
        let gone = Interface { name: "gone".to_owned(), ..Interface::default() };
        assert_eq!(Interface::read(system.path(), "gone"), gone);
    }

    #[test]
    fn this_machine_reaches_itself_over_its_loopback_or_what_it_is_said_to_be() {
        let broker = Some(SocketAddr::from(([127, 0, 0, 1], 1883)));
        let address = Some(IpAddr::from([127, 0, 0, 1]));
        let link = "loopback".to_owned();
        assert_eq!(look(broker, &LinkName::Auto), Network { link, address });
        let link = "depot".to_owned();
        assert_eq!(look(broker, &LinkName::Own(link.clone())), Network { link, address });
        assert_eq!(look(None, &LinkName::Auto), Network::default());
    }

    #[tokio::test]
    async fn a_broker_that_nobody_knows_is_not_found() {
        for (url, expected) in [
            ("mqtt://127.0.0.1:9", Some(SocketAddr::from(([127, 0, 0, 1], 9)))),
            ("mqtt://broker.invalid", None),
        ] {
            assert_eq!(find(&url.parse().unwrap()).await, expected, "{url}");
        }
    }
}
