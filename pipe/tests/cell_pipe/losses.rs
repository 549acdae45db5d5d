//! Peers and links that are lost.

use std::time::Duration;

use cellnet_core::{cell::Cell, message::Payload, transport::mem::MemNet};
use cellnet_pipe::{CellPipe, HandlerConfig, Mode, Pipe, PipeEvent, PipeHandler, Place, TreePolicy};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_root_that_is_killed_and_restarted_costs_nothing_and_doubles_nothing() {
    let net = MemNet::new();
    let mut root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    let cells = [active.cell().unwrap(), passive.cell().unwrap()];
    let config = || {
        let mut config = HandlerConfig::default();
        config.max_resends = None;
        config
    };
    let sender = PipeHandler::new(active, config()).unwrap();
    let reader = PipeHandler::new(passive, config()).unwrap();
    sender.start();
    reader.start();
    let sends = async {
        for id in 0..200 {
            let sent = sender.send_to_peer(&message(&id.to_string()), Some(2 * SECOND), None).await.unwrap();
            assert!(sent.is_taken());
            tokio::time::sleep(SECOND / 10).await;
        }
        sender.notify_end(Payload::None).await;
    };
    let kills = async {
        for _ in 0..2 {
            tokio::time::sleep(5 * SECOND).await;
            drop(std::mem::replace(&mut root, Cell::builder(name("server")).start().await.unwrap()));
            tokio::time::sleep(3 * SECOND).await;
            assert!(cells.iter().all(|cell| cell.neighbours().is_empty()));
            root = start_root(&net).await;
        }
    };
    let reads = async {
        for id in 0..200 {
            let Some(PipeEvent::Message(message)) = reader.next().await else { panic!("no message {id}") };
            assert_eq!(message.msg_id, id.to_string());
        }
        assert!(matches!(reader.next().await, Some(PipeEvent::End(_))));
    };
    tokio::join!(sends, kills, reads);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_acknowledgement_is_late_is_sent_again_and_delivered_once() {
    let net = MemNet::new();
    let hub = Cell::builder(name("server")).resolver(TreePolicy).transport(net.host("hub"));
    let root = hub.listen(url("mem://hub")).start().await.unwrap();
    let seen = record(&root);
    let far = net.host("far");
    let builder = CellPipe::builder(Mode::Active, "site-1", "job-7", Place::root(url("mem://hub")));
    let active = opened(builder.cell(move |cell| cell.transport(far.clone())), "task").await;
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let sender = PipeHandler::new(active, HandlerConfig::default()).unwrap();

    net.set_latency("hub", "far", 3 * SECOND);
    let first = message("a");
    let (outcome, ()) = tokio::join!(sender.send_to_peer(&first, Some(SECOND), None), async {
        tokio::time::sleep(5 * SECOND).await;
        net.set_latency("hub", "far", Duration::ZERO);
    });
    assert!(outcome.unwrap().is_taken());
    let count = |it: &cellnet_core::wire::Headers| it.text("cell_pipe.msg_id").is_some_and(|id| id == "a");
    assert!(seen.lock().unwrap().iter().filter(|headers| count(headers)).count() > 1);
    sender.send_to_peer(&message("b"), None, None).await.unwrap();
    assert_eq!(received(&passive).await.msg_id, "a");
    assert_eq!(received(&passive).await.msg_id, "b");
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_process_freezes_is_gone_and_the_other_side_goes_on() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let frozen = net.host("frozen");
    let builder = CellPipe::builder(Mode::Active, "site-1", "job-7", Place::root(url("mem://hub")));
    let active = opened(builder.cell(move |cell| cell.transport(frozen.clone())), "task").await;
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let trainer = PipeHandler::new(active, HandlerConfig::default()).unwrap();
    let job = PipeHandler::new(passive.clone(), HandlerConfig::default()).unwrap();
    trainer.start();
    job.start();
    tokio::time::sleep(100 * SECOND).await;
    net.freeze("frozen");
    let last = passive.last_peer_active().unwrap();
    assert!(matches!(job.next().await, Some(PipeEvent::PeerGone(_))));
    // What was on its way when the peer froze may still arrive.
    assert!(last.elapsed() >= 30 * SECOND && last.elapsed() < 31 * SECOND, "{:?}", last.elapsed());
    assert!(passive.cell().unwrap().route(&name("server")).is_some());
}
