//! How a cell of ours answers, and what every pair of cells of both kinds must be able to say to one another.

use std::time::Duration;

use cellnet_core::{
    cell::{Answer, Cell, HandlerError, Request, RequestError},
    fobs::Object,
    message::{Message, Payload},
};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::{
    payload::{KINDS, decoded, describe, from_json, object, payload, to_json},
    support::{ask, code, fqcn},
};

/// Answers on a channel; the topic says how, much as `common.Behaviours` does.
pub(crate) fn behave(cell: &Cell, channel: &str) {
    cell.handle(channel, "echo", |request: Request| async move { ok(request.message.payload) });
    cell.handle(channel, "recode", |request: Request| async move {
        ok(match request.message.payload {
            fobs @ Payload::Fobs(_) => object(decoded(&fobs)),
            other => other,
        })
    });
    cell.handle(channel, "describe", |request: Request| async move {
        ok(from_json(&describe(&request.message.payload)))
    });
    cell.handle(channel, "fail", |_| async { Err::<Answer, _>(HandlerError::failed("told to fail")) });
    cell.handle(channel, "busy", |_| async {
        Err::<Answer, _>(HandlerError::unavailable("told to be busy"))
    });
    cell.handle(channel, "invalid", |_| async { Err::<Answer, _>(HandlerError::invalid_request("told so")) });
    let answering = cell.clone();
    cell.handle(channel, "later", move |request: Request| {
        let cell = answering.clone();
        async move {
            let id = request.id();
            tokio::spawn(async move {
                let reply = Message::new(request.message.payload);
                cell.send_reply(&request.origin, &[id], reply).await.expect("the requester is there");
            });
            Ok(Answer::Deferred)
        }
    });
}

fn ok(payload: impl Into<Payload>) -> Result<Answer, HandlerError> {
    Ok(Message::new(payload).into())
}

/// All kinds of payloads and outcomes, asked by each side of the other. `cell` answers by [`behave`], `peer` by
/// `common.Behaviours`, both on `channel`.
pub(crate) async fn talk(cell: &Cell, peer: &str, channel: &str) {
    tokio::join!(
        we_ask(cell, peer, channel),
        they_ask(cell, peer, channel),
        failures_come_back(cell, peer, channel),
        failures_are_told(cell, peer, channel),
    );
}

async fn we_ask(cell: &Cell, peer: &str, channel: &str) {
    for (number, kind) in KINDS.into_iter().enumerate() {
        let sent = payload(kind, 1000, number);
        let seen = ask(cell, peer, channel, "describe", sent.clone()).await;
        assert_eq!(to_json(&seen.payload), describe(&sent), "{kind} as the reference sees it");
        let echo = ask(cell, peer, channel, "echo", sent.clone()).await;
        assert_eq!((code(&echo).as_str(), decoded(&echo.payload)), ("ok", decoded(&sent)), "{kind} echoed");
    }
    let mut many = JoinSet::new();
    for number in 0..32 {
        let (cell, peer, channel) = (cell.clone(), peer.to_owned(), channel.to_owned());
        many.spawn(async move {
            let sent = payload("dict", 100, number);
            let echo = ask(&cell, &peer, &channel, "echo", sent.clone()).await;
            assert_eq!(decoded(&echo.payload), decoded(&sent), "reply {number} of many at once");
        });
    }
    many.join_all().await;
}

async fn they_ask(cell: &Cell, peer: &str, channel: &str) {
    for topic in ["echo", "recode", "later"] {
        for (number, kind) in KINDS.into_iter().enumerate() {
            let sent = decoded(&payload(kind, 1000, number));
            let order = Object::from_iter([
                ("channel", channel.into()),
                ("topic", topic.into()),
                ("payload", sent.clone()),
            ]);
            let account = decoded(&ask(cell, peer, channel, "call_me", object(order)).await.payload);
            assert_eq!(
                account.get("return_code").and_then(|code| code.as_str()),
                Some("ok"),
                "{topic} {kind}"
            );
            assert_eq!(account.get("payload"), Some(&sent), "{topic} {kind}");
        }
    }
    let order = json!({"channel": channel, "topic": "describe", "payload": "text"});
    let account = to_json(&ask(cell, peer, channel, "call_me", from_json(&order)).await.payload);
    assert_eq!(account["payload"], describe(&object("text".into())));
}

/// What the reference answers when something is wrong.
async fn failures_come_back(cell: &Cell, peer: &str, channel: &str) {
    let text = |text: &str| object(text.into());
    for (topic, payload, expected) in [
        ("unknown", Payload::None, "invalid_request"),
        ("rc", text("a_code_of_its_own"), "a_code_of_its_own"),
    ] {
        let reply = ask(cell, peer, channel, topic, payload).await;
        assert_eq!(code(&reply), expected, "{topic}");
    }
    let short = Duration::from_millis(500);
    let silent = cell.request(&fqcn(peer), channel, "none", Message::empty()).timeout(short).await;
    assert!(matches!(silent, Err(RequestError::Timeout(_) | RequestError::Stream(_))), "{silent:?}");
}

/// What the reference hears when something is wrong here.
async fn failures_are_told(cell: &Cell, peer: &str, channel: &str) {
    for (topic, expected, text) in [
        ("fail", "process_exception", "told to fail"),
        ("busy", "service_unavailable", "told to be busy"),
        ("invalid", "invalid_request", "told so"),
        ("nobody registered this", "process_exception", "nobody registered this"),
    ] {
        let account = they_are_told(cell, peer, channel, json!({"channel": channel, "topic": topic})).await;
        assert_eq!(account["return_code"], expected, "{topic}: {account}");
        assert!(account["error"].as_str().is_some_and(|error| error.contains(text)), "{topic}: {account}");
    }
}

/// Lets the peer make the call that `order` describes, to us if it names no target.
pub(crate) async fn they_are_told(cell: &Cell, peer: &str, channel: &str, order: Json) -> Json {
    to_json(&ask(cell, peer, channel, "call_me", from_json(&order)).await.payload)
}
