//! The suite of all drivers on QUIC.

mod common;

use std::time::Duration;

use cellnet_core::{
    testkit::{
        conformance::{self, RawWriter, Rig},
        pki::Pki,
    },
    tls::TlsMode,
};
use cellnet_quic::{ALPN, Quic};
use common::raw;

fn rig(mode: TlsMode) -> Rig {
    let tls = Pki::new().tls("site-1", mode);
    let quic = Quic::new().with_connect_timeout(Duration::from_secs(20));
    let nobody = format!("quic://{}", raw::nobody());
    let rig = Rig::new(quic, "quic://127.0.0.1:0", &nobody).with_tls(tls.clone());
    let rig = rig.with_raw({
        let tls = tls.clone();
        move |url| {
            let tls = tls.clone();
            async move {
                let connection = raw::connect(&tls, mode, &[ALPN], &url).await?;
                Ok(Box::new(raw::control(connection).await?) as RawWriter)
            }
        }
    });
    // It shakes hands and opens no lane.
    let rig = rig.with_silent(move |url| {
        let tls = tls.clone();
        async move {
            // Open until the test ends.
            std::mem::forget(raw::connecting(&tls, mode, &[ALPN], &url)?);
            Ok(Box::new(tokio::io::sink()) as RawWriter)
        }
    });
    let v6 = std::net::UdpSocket::bind("[::1]:0").is_ok();
    if v6 { rig.with_v6("quic://[::1]:0") } else { rig }
}

mod tls {
    use super::*;
    conformance::suite!(rig(TlsMode::Tls));
}

mod mtls {
    use super::*;
    conformance::suite!(rig(TlsMode::Mtls));
}
