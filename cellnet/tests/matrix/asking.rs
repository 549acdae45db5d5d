//! Messages that fit into one frame.

use std::{collections::BTreeSet, time::Duration};

use cellnet::{ANY, Answer, HandlerError, Message, Request, RequestId};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    network::{Network, hops},
    seen::{Seen, check_way},
};

/// A channel whose messages travel plainly.
const PLAIN: &str = "task";
/// A channel whose messages travel as blobs.
const STREAMED: &str = "model";
const MESSAGES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// A request is answered by whom it is for, who sees it once, with the way that it came.
pub(crate) async fn request(network: Network) {
    let mut all = Vec::new();
    for (asker, target) in network.both_ways() {
        for channel in [PLAIN, STREAMED] {
            let mut seen = Seen::echoing(&target, channel);
            let mut asking = JoinSet::new();
            for number in 0..MESSAGES {
                let message = Message::new(number.to_string()).with_header("number", number as u64);
                let ask = asker.request(target.name(), channel, "t", message).timeout(PATIENCE);
                asking.spawn(async move { (number, ask.await.unwrap()) });
            }
            while let Some(answered) = asking.join_next().await {
                let (number, reply) = answered.unwrap();
                assert!(reply.is_ok(), "{:?}", reply.error());
                assert_eq!(reply.payload.as_bytes(), number.to_string().as_bytes());
                assert_eq!(reply.origin().as_ref(), Some(target.name()));
                assert_eq!(hops(&reply.headers), network.way(&target));
            }
            let mut numbers = BTreeSet::new();
            for _ in 0..MESSAGES {
                let request = seen.next().await;
                check_way(&request, asker.name(), &network.way(&asker));
                let number = request.message.headers.get("number").and_then(|value| value.as_u64());
                assert!(numbers.insert(number.expect("the header that was set")), "{number:?} came again");
            }
            all.push(seen);
        }
    }
    network.stop().await;
    all.iter_mut().for_each(Seen::is_all);
}

/// What is told arrives once.
pub(crate) async fn fire_and_forget(network: Network) {
    let mut all = Vec::new();
    for (teller, target) in network.both_ways() {
        for channel in [PLAIN, STREAMED] {
            let mut seen = Seen::echoing(&target, channel);
            let mut expected = BTreeSet::new();
            for number in 0..MESSAGES {
                let message = Message::new(number.to_string());
                teller.fire_and_forget(target.name(), channel, "t", message).await.unwrap();
                expected.insert(number.to_string().into_bytes());
            }
            while !expected.is_empty() {
                let told = seen.next().await;
                check_way(&told, teller.name(), &network.way(&teller));
                assert!(!told.expects_reply());
                assert!(expected.remove(told.message.payload.as_bytes()), "it came again, or changed");
            }
            all.push(seen);
        }
    }
    network.stop().await;
    all.iter_mut().for_each(Seen::is_all);
}

/// Every cell that is named answers for itself, in the order of the names, whoever asks.
pub(crate) async fn broadcast(network: Network) {
    let mut all = Vec::new();
    for asker in [network.server(), network.site()] {
        let others: Vec<_> = network.cells().into_iter().filter(|cell| cell.name() != asker.name()).collect();
        for channel in [PLAIN, STREAMED] {
            let mut seen = Vec::new();
            for cell in &others {
                let own = cell.name().to_string();
                seen.push(Seen::answering(cell, channel, move |_| Message::new(own.clone())));
            }
            let targets: Vec<_> = others.iter().map(|cell| cell.name().clone()).collect();
            let answers = asker.broadcast(&targets, channel, "t", Message::new("who?"), PATIENCE).await;
            assert_eq!(answers.len(), targets.len());
            for (target, (name, answer)) in targets.iter().zip(answers) {
                let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(answer.is_ok(), "{name}: {:?}", answer.error());
                assert_eq!((&name, answer.payload.as_bytes()), (target, target.as_str().as_bytes()));
            }
            for seen in &mut seen {
                assert_eq!(seen.next().await.origin, *asker.name());
            }
            all.extend(seen);
        }
    }
    network.stop().await;
    all.iter_mut().for_each(Seen::is_all);
}

/// Two requests wait until the cell that was asked has something to say, and one message answers both.
pub(crate) async fn deferred_reply(network: Network) {
    for (asker, target) in network.both_ways() {
        for channel in [PLAIN, STREAMED] {
            let (told, mut waiting) = mpsc::channel::<RequestId>(2);
            target.handle(channel, ANY, move |request: Request| {
                let told = told.clone();
                async move {
                    told.send(request.id()).await.map_err(|error| HandlerError::failed(error.to_string()))?;
                    Ok::<_, HandlerError>(Answer::Deferred)
                }
            });
            let mut asking = JoinSet::new();
            for _ in 0..2 {
                let ask = asker.request(target.name(), channel, "t", Message::new("later")).timeout(PATIENCE);
                asking.spawn(ask.into_future());
            }
            let ids = [waiting.recv().await.unwrap(), waiting.recv().await.unwrap()];
            assert!(asking.try_join_next().is_none(), "nobody has answered yet");
            target.send_reply(asker.name(), &ids, Message::new("now")).await.unwrap();
            while let Some(answered) = asking.join_next().await {
                let reply = answered.unwrap().unwrap();
                assert_eq!((reply.is_ok(), reply.payload.as_bytes()), (true, &b"now"[..]));
            }
        }
    }
    network.stop().await;
}
