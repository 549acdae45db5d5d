//! Pipes that open and end, and the cells that they share.

use cellnet_core::{cell::CellEvent, transport::mem::MemNet};
use cellnet_pipe::{CellPipeBuilder, Credentials, Delivery, Mode, OpenError, Pipe, PipeError, PipeHost};
use tokio::time::timeout;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn pipes_of_one_name_share_a_cell_that_ends_with_the_last() {
    let net = MemNet::new();
    let root = start_root(&net).await;
    let host = PipeHost::new();
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let task = opened(side(&net, Mode::Active).host(&host), "task").await;
    let metric = opened(side(&net, Mode::Active).host(&host), "metric").await;
    assert_eq!(root.neighbours().len(), 2);

    assert!(task.send(&message("a"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
    let nobody = metric.send(&message("b"), None).await.unwrap();
    assert!(matches!(nobody, Delivery::Refused { .. }), "{nobody:?}");

    task.close().await;
    assert!(matches!(task.send(&message("c"), None).await, Err(PipeError::NotOpen)));
    assert_eq!(root.neighbours().len(), 2);
    metric.close().await;
    assert_eq!(root.neighbours(), [passive.fqcn().clone()]);

    let again = opened(side(&net, Mode::Active).host(&host), "task").await;
    assert!(again.send(&message("d"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "d");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_opens_while_its_cell_ends_gets_a_new_one() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let host = PipeHost::new();
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let first = opened(side(&net, Mode::Active).host(&host), "task").await;
    let second = side(&net, Mode::Active).host(&host).build().unwrap();
    let ((), open) = tokio::join!(first.close(), second.open("task"));
    open.unwrap();
    second.cell().unwrap().connected().await;
    assert!(second.send(&message("a"), None).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pipe_frees_its_name_and_its_cell() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let host = PipeHost::new();
    let first = opened(side(&net, Mode::Active).host(&host), "task").await;
    let second = opened(side(&net, Mode::Active).host(&host), "metric").await;
    drop(first);
    let third = opened(side(&net, Mode::Active).host(&host), "task").await;
    drop((second, third));
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let fourth = opened(side(&net, Mode::Active).host(&host), "task").await;
    assert!(fourth.send(&message("a"), Some(10 * SECOND)).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
}

#[tokio::test(start_paused = true)]
async fn the_cell_of_a_dropped_pipe_ends_although_somebody_holds_it() {
    let net = MemNet::new();
    let root = start_root(&net).await;
    let host = PipeHost::new();
    let passive = opened(side(&net, Mode::Passive), "task").await;
    let first = opened(side(&net, Mode::Active).host(&host), "task").await;
    let held = first.cell().unwrap();
    let mut events = root.events();
    drop(first);
    let second = opened(side(&net, Mode::Active).host(&host), "task").await;
    assert!(second.send(&message("a"), Some(10 * SECOND)).await.unwrap().is_taken());
    assert_eq!(received(&passive).await.msg_id, "a");
    // The old cell was gone before the new one came, and stays away.
    let mut changes = Vec::new();
    while changes.len() < 2 {
        match timeout(60 * SECOND, events.next()).await.unwrap().unwrap() {
            CellEvent::Connected { .. } => changes.push("connected"),
            CellEvent::Disconnected { .. } => changes.push("disconnected"),
            _ => {}
        }
    }
    assert_eq!(changes, ["disconnected", "connected"]);
    assert!(held.neighbours().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_received_after_the_close() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let (active, passive) = pair(&net).await;
    assert!(active.send(&message("a"), None).await.unwrap().is_taken());
    passive.close().await;
    assert_eq!(received(&passive).await.msg_id, "a");
    assert_eq!(passive.receive(None).await, Err(PipeError::NotOpen));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_and_settings_that_differ_are_refused() {
    let net = MemNet::new();
    let _root = start_root(&net).await;
    let host = PipeHost::new();
    let task = opened(side(&net, Mode::Active).host(&host), "task").await;
    let open = async |builder: CellPipeBuilder, name| builder.build().unwrap().open(name).await;
    let same = open(side(&net, Mode::Active).host(&host), "task").await;
    assert!(matches!(same, Err(OpenError::NameTaken { .. })), "{same:?}");
    let credentials = Credentials { token: "t".into(), signature: "s".into() };
    let other = open(side(&net, Mode::Active).host(&host).credentials(credentials), "metric").await;
    assert!(matches!(other, Err(OpenError::Conflict(_))), "{other:?}");
    for name in ["", "*", "a b", "a:b"] {
        assert!(matches!(open(side(&net, Mode::Passive), name).await, Err(OpenError::Name(_))));
    }
    assert!(matches!(task.open("task").await, Err(OpenError::Already)));
    assert!(task.cell().unwrap().route(&name("server")).is_some());
}
