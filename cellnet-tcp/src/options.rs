//! What every connection asks of the system.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Sets what a connection needs. An option that the system refuses costs quality, not correctness, and is logged.
pub(crate) fn set<'s, S>(socket: &'s S, silence: Duration)
where
    SockRef<'s>: From<&'s S>,
{
    let socket = SockRef::from(socket);
    note("TCP_NODELAY", socket.set_tcp_nodelay(true));
    note("keep-alive", socket.set_tcp_keepalive(&keepalive(silence)));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        note("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(silence)));
        note("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(UNSENT));
    }
}

/// Probes that end when the silence does: a third of it idle, then four probes.
fn keepalive(silence: Duration) -> TcpKeepalive {
    // The system counts whole seconds and refuses 0.
    let seconds = |part: Duration| part.max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(seconds(silence / 3)).with_interval(seconds(silence / 6));
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    let keepalive = keepalive.with_retries(4);
    keepalive
}

fn note(option: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(option, %error, "socket option refused");
    }
}

/// Bytes that the kernel takes before it has sent the ones before, so that control frames overtake bulk.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_socket_has_what_a_connection_needs() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        set(&socket, Duration::from_secs(30));
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
    }

    #[tokio::test]
    async fn a_short_silence_is_no_reason_to_refuse() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        SockRef::from(&socket).set_tcp_keepalive(&keepalive(Duration::from_millis(10))).unwrap();
    }
}
