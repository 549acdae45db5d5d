//! Pipes, whose sides are cells of their own.

use std::time::Duration;

use cellnet::{
    Payload,
    pipe::{CellPipe, MessageType, Mode, Pipe, PipeMessage},
    wire::keys::cn,
};

use crate::{
    bulk::noise,
    network::{Network, hops},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Both sides ask and answer, and are told when the other one is done.
pub(crate) async fn pipe(network: Network) {
    let active = open(&network, Mode::Active).await;
    let passive = open(&network, Mode::Passive).await;
    for (asking, answering) in [(&active, &passive), (&passive, &active)] {
        for data in [Payload::None, Payload::from("weights"), noise((3 << 20) + 1).into()] {
            let sent = PipeMessage::new_request("train".parse().unwrap(), data.clone());
            let ask = exchange(&network, asking, answering, &sent).await;
            assert_eq!(ask.msg_type, MessageType::Request);
            let sent = PipeMessage::new_reply(&ask, data);
            let answer = exchange(&network, answering, asking, &sent).await;
            assert_eq!((answer.msg_type, answer.req_id.as_ref()), (MessageType::Reply, Some(&ask.msg_id)));
        }
    }
    let end = PipeMessage::end(Payload::from("done"));
    exchange(&network, &active, &passive, &end).await;
    active.close().await;
    passive.close().await;
    network.stop().await;
}

/// Sends a message and gives it as the other side gets it: once, as it was, through the cell that both attach to.
async fn exchange(network: &Network, from: &CellPipe, to: &CellPipe, sent: &PipeMessage) -> PipeMessage {
    let outcome = from.send(sent, Some(PATIENCE)).await.unwrap();
    assert!(outcome.is_taken(), "{outcome}");
    let found = to.receive(Some(PATIENCE)).await.unwrap().expect("it waits here");
    assert_eq!((&found.msg_id, &found.topic), (&sent.msg_id, &sent.topic));
    assert!(found.data == sent.data, "{} bytes became {}", sent.data.len(), found.data.len());
    let way = [from.fqcn(), network.pipe_hub(), to.fqcn()].map(ToString::to_string);
    assert_eq!(hops(&found.headers), way);
    assert_eq!(found.headers.text(cn::ORIGIN), Some(from.fqcn().as_str()));
    assert_eq!(to.receive(Some(Duration::ZERO)).await.unwrap(), None);
    found
}

async fn open(network: &Network, mode: Mode) -> CellPipe {
    let pipe = network.pipe(mode);
    pipe.open("task").await.unwrap();
    let cell = pipe.cell().expect("the pipe is open");
    cell.connected().await;
    let schemes: Vec<_> =
        cell.dialled().iter().map(|(peer, url)| (peer.clone(), url.scheme().clone())).collect();
    let [(peer, scheme)] = &schemes[..] else { panic!("{schemes:?}") };
    assert_eq!((peer, scheme), (network.pipe_hub(), pipe.place().url().scheme()));
    pipe
}
