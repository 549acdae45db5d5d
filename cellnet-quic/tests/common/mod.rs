//! What the tests of this crate share.

#![allow(dead_code, reason = "each test takes what it needs")]

pub(crate) mod raw;

use std::time::Duration;

use cellnet_core::{
    CellUrl,
    stats::Budget,
    tls::Tls,
    transport::{Batch, Bind, Connection, Frame, Lane, Target, Transport, TransportError},
    wire::Prefix,
};
use cellnet_quic::Quic;
use tokio::sync::mpsc;

/// A listener whose connections, and refusals, come out of a queue.
pub(crate) struct Open {
    pub(crate) url: CellUrl,
    came: mpsc::Receiver<Result<Connection, TransportError>>,
}

impl Open {
    pub(crate) async fn at(quic: Quic, tls: &Tls) -> Self {
        let mut bind = Bind::new("quic://127.0.0.1:0".parse().unwrap(), Budget::new(64 << 20));
        bind.tls = Some(tls.clone());
        let mut listener = quic.listen(&bind).await.unwrap();
        let url = listener.local_url().clone();
        let (tx, came) = mpsc::channel(4096);
        tokio::spawn(async move {
            while let Ok(accepting) = listener.accept().await {
                let tx = tx.clone();
                tokio::spawn(async move { tx.send(accepting.await).await });
            }
        });
        Self { url, came }
    }

    pub(crate) async fn next(&mut self) -> Result<Connection, TransportError> {
        let came = tokio::time::timeout(Duration::from_secs(60), self.came.recv()).await;
        came.expect("it is decided within a minute").expect("the listener lives")
    }

    /// Both ends of a new connection.
    pub(crate) async fn pair(&mut self, quic: &Quic, tls: &Tls) -> (Connection, Connection) {
        self.pair_by(&self.url.clone(), quic, tls).await
    }

    /// The same, by way of another address.
    pub(crate) async fn pair_by(
        &mut self,
        url: &CellUrl,
        quic: &Quic,
        tls: &Tls,
    ) -> (Connection, Connection) {
        let came = async {
            loop {
                if let Ok(came) = self.next().await {
                    break came;
                }
            }
        };
        let (dialled, came) = tokio::join!(dial(quic, url, tls), came);
        (dialled.unwrap(), came)
    }

    /// Why the next one was refused.
    pub(crate) async fn refusal(&mut self) -> TransportError {
        match self.next().await {
            Err(error) => error,
            Ok(_) => panic!("it was let in"),
        }
    }
}

pub(crate) async fn dial(quic: &Quic, url: &CellUrl, tls: &Tls) -> Result<Connection, TransportError> {
    let mut target = Target::new(url.clone(), Budget::new(64 << 20));
    target.tls = Some(tls.clone());
    quic.connect(&target).await
}

pub(crate) fn frame(body: usize) -> Frame {
    let mut head = bytes::BytesMut::new();
    Prefix { length: 16 + body as u32, kind: 1, ..Prefix::default() }.encode(&mut head);
    Frame::new(head.freeze(), vec![7; body].into())
}

pub(crate) async fn send(lane: &mut Lane, frame: Frame) {
    lane.tx.feed(&mut Batch::from([frame]));
    lane.tx.flush().await.unwrap();
}

/// Both ends carry a frame on every lane.
pub(crate) async fn works(here: &mut Connection, there: &mut Connection) {
    for (one, other) in [&mut here.control]
        .into_iter()
        .chain(&mut here.bulk)
        .zip([&mut there.control].into_iter().chain(&mut there.bulk))
    {
        send(one, frame(1000)).await;
        let mut batch = Batch::new();
        other.rx.recv(&mut batch).await.unwrap();
        assert_eq!(batch.len(), 1);
    }
}
