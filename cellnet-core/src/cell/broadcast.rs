//! One question to many cells.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytestring::ByteString;
use futures_util::future::join_all;
use uuid::Uuid;

use super::{Ask, Inner, RequestError};
use crate::{fqcn::Fqcn, message::Message};

/// Asks every target its message, all under one request id but for targets that were named before: a reply is known by
/// the id and who sends it. Gives the outcomes in order.
pub(crate) async fn ask_all(
    inner: &Arc<Inner>,
    messages: Vec<(Fqcn, Message)>,
    channel: &ByteString,
    topic: &ByteString,
    timeout: Duration,
) -> Vec<(Fqcn, Result<Message, RequestError>)> {
    let id = Uuid::new_v4();
    let mut named = HashSet::new();
    let asks = messages.into_iter().map(|(target, message)| {
        let id = if named.insert(target.clone()) { id } else { Uuid::new_v4() };
        let ask = Ask::new(inner.clone(), target.clone(), channel.clone(), topic.clone(), message);
        async move { (target, ask.under(id).timeout(timeout).await) }
    });
    join_all(asks).await
}
