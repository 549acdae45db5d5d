//! The lanes of a connection: how both sides agree on them, and what they become.

use std::sync::Arc;

use async_trait::async_trait;
use cellnet_core::{
    stats::Budget,
    transport::{Batch, Connection, ConnectionInfo, FrameReceiver, TransportError, framed},
};
use quinn::{RecvStream, SendStream, VarInt};

use crate::{
    Quic,
    refusal::Refusal,
    stream::{Reader, Trunk, WRONG_LANES, Writer},
};

/// The streams of a connection, control first, then bulk by number.
pub(crate) struct Streams(Vec<(SendStream, RecvStream)>);

/// The lane number of control.
const CONTROL: u8 = 0;

/// Opens the lanes of a connection that this side dialled.
pub(crate) async fn open(connection: &quinn::Connection, wanted: u8) -> Result<Streams, Refusal> {
    let (mut tx, mut rx) = connection.open_bi().await?;
    prefer(&tx, CONTROL_FIRST);
    tx.write_all(&[CONTROL, wanted]).await?;
    let agreed = byte(&mut rx).await?;
    if agreed > wanted {
        return Err(wrong(connection, format!("it agreed to {agreed} lanes when asked for {wanted}")));
    }
    let mut streams = vec![(tx, rx)];
    for number in 1..=agreed {
        let (mut tx, rx) = connection.open_bi().await?;
        prefer(&tx, BULK_AFTER);
        tx.write_all(&[number]).await?;
        streams.push((tx, rx));
    }
    Ok(Streams(streams))
}

/// Takes the lanes that a dialler opens.
pub(crate) async fn accept(connection: &quinn::Connection, most: u8) -> Result<Streams, Refusal> {
    let (mut tx, mut rx) = connection.accept_bi().await?;
    let first = byte(&mut rx).await?;
    if first != CONTROL {
        return Err(wrong(connection, format!("its first lane is number {first} instead of {CONTROL}")));
    }
    let agreed = byte(&mut rx).await?.min(most);
    prefer(&tx, CONTROL_FIRST);
    tx.write_all(&[agreed]).await?;
    let mut bulk: Vec<_> = (0..agreed).map(|_| None).collect();
    for _ in 0..agreed {
        let (tx, mut rx) = connection.accept_bi().await?;
        let number = byte(&mut rx).await?;
        let place = number.checked_sub(1).and_then(|at| bulk.get_mut(usize::from(at)));
        match place {
            Some(place @ None) => {
                prefer(&tx, BULK_AFTER);
                *place = Some((tx, rx));
            }
            Some(_) => return Err(wrong(connection, format!("lane {number} came twice"))),
            None => {
                return Err(wrong(connection, format!("lane {number} is none of the {agreed} agreed to")));
            }
        }
    }
    // No more will be taken.
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(0));
    Ok(Streams([(tx, rx)].into_iter().chain(bulk.into_iter().flatten()).collect()))
}

impl Streams {
    /// Makes lanes of streams.
    pub(crate) fn into_connection(
        self,
        quic: &Quic,
        connection: quinn::Connection,
        info: ConnectionInfo,
        budget: &Arc<Budget>,
    ) -> Connection {
        let bulk = u8::try_from(self.0.len() - 1).expect("lanes are numbered by bytes");
        let trunk = Trunk::new(connection, self.0.len());
        let mut lanes = self.0.into_iter().map(|(tx, rx)| {
            let (rx, tx) =
                (Reader::new(rx, trunk.clone()), Writer::new(tx, trunk.clone(), quic.close_timeout));
            framed::lane(rx, tx, &info, budget.clone())
        });
        let mut control = lanes.next().expect("there is a control stream");
        let bulk_lanes = lanes.collect();
        let window = VarInt::from_u64(quic.all_lanes(bulk)).expect("at most 17 GiB");
        control.rx = Box::new(ControlReceiver { inner: control.rx, trunk: trunk.clone(), window });
        let mut opened = Connection::new(info, control);
        opened.bulk = bulk_lanes;
        opened
    }
}

/// Makes room for the whole connection as soon as its control lane may carry frames of any length, which is after
/// HELLO.
#[derive(Debug)]
struct ControlReceiver {
    inner: Box<dyn FrameReceiver>,
    trunk: Arc<Trunk>,
    window: VarInt,
}

#[async_trait]
impl FrameReceiver for ControlReceiver {
    async fn recv(&mut self, batch: &mut Batch) -> Result<(), TransportError> {
        self.inner.recv(batch).await
    }

    fn set_max_frame(&mut self, bytes: usize) {
        self.inner.set_max_frame(bytes);
        self.trunk.connection.set_receive_window(self.window);
    }
}

async fn byte(stream: &mut RecvStream) -> Result<u8, Refusal> {
    let mut byte = [0];
    stream.read_exact(&mut byte).await?;
    Ok(byte[0])
}

/// Tells the peer too.
fn wrong(connection: &quinn::Connection, why: String) -> Refusal {
    connection.close(WRONG_LANES, why.as_bytes());
    Refusal::Lanes(why)
}

fn prefer(stream: &SendStream, priority: i32) {
    // It fails if the stream has ended, and then it does not matter.
    let _ = stream.set_priority(priority);
}

const CONTROL_FIRST: i32 = 1;
const BULK_AFTER: i32 = 0;
