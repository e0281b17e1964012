//! Viewers who have left, while the server has not said yet that it knows: what it goes on to send them is counted too, so
//! that what it has sent and what has come can be compared one to one.

use std::collections::HashMap;

use mio::net::UdpSocket;

use crate::{
    net::{self, Inbox},
    rtp,
};

/// Sockets kept open at most; those of further ones are closed at once, and what comes to them is not counted.
const MAX_LEAVING: usize = 4_096;

/// What still came to those who had left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct After {
    pub(super) arrived: u64,
    pub(super) drops: u64,
}

/// Their sockets, each by the number of the request that ends its session.
#[derive(Default)]
pub(super) struct Leaving {
    /// With what they had dropped when their viewer left: until then, the session has counted it.
    sockets: HashMap<u64, (UdpSocket, u64)>,
    next: u64,
}

impl Leaving {
    /// Keeps a socket until its session is over. Returns by which number it will be known.
    pub(super) fn keep(&mut self, socket: Option<UdpSocket>) -> u64 {
        self.next += 1;
        if let Some(socket) = socket.filter(|_| self.sockets.len() < MAX_LEAVING) {
            let drops = net::drops(&socket);
            self.sockets.insert(self.next, (socket, drops));
        }
        self.next
    }

    /// The server has answered: what it sent until then has come, or is lost.
    pub(super) fn over(&mut self, number: u64, inbox: &mut Inbox) -> After {
        self.sockets.remove(&number).map(|left| drain(&left, inbox)).unwrap_or_default()
    }

    /// Nobody waits any longer.
    pub(super) fn all_over(&mut self, inbox: &mut Inbox) -> After {
        self.sockets.drain().map(|(_, left)| drain(&left, inbox)).fold(After::default(), |sum, after| After {
            arrived: sum.arrived + after.arrived,
            drops: sum.drops + after.drops,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

fn drain((socket, before): &(UdpSocket, u64), inbox: &mut Inbox) -> After {
    let mut arrived = 0;
    while let Ok(more) = net::receive(socket, inbox) {
        let rtp = inbox.datagrams().filter(|(datagram, _)| rtp::is_rtp(datagram)).count();
        arrived += rtp as u64;
        if !more {
            break;
        }
    }
    After { arrived, drops: net::drops(socket).saturating_sub(*before) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_leaving_is_counted_once_it_is_over() {
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = net::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = socket.local_addr().unwrap();
        let (mut leaving, mut inbox) = (Leaving::default(), Inbox::new());
        let number = leaving.keep(Some(socket));
        let (rtp, rtcp, stun) = ([0x80, 96, 0, 1], [0x80, 201, 0, 1], [0, 1, 0, 0]);
        for datagram in [rtp, rtp, rtcp, stun, rtp] {
            let mut whole = [0; 20];
            whole[..4].copy_from_slice(&datagram);
            sender.send_to(&whole, to).unwrap();
        }
        assert_eq!(leaving.over(number + 1, &mut inbox), After::default());
        assert!(!leaving.is_empty());
        assert_eq!(leaving.over(number, &mut inbox), After { arrived: 3, drops: 0 });
        assert!(leaving.is_empty() && leaving.all_over(&mut inbox) == After::default());
    }
}
