//! A pipe through cells.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytestring::ByteString;
use cellnet_core::{
    Fqcn,
    cell::{ANY, Cell, CellBuilder, HandlerError, Request},
    message::{Message, ReturnCode},
    wire::keys::{cn, pipe::HB_SEQ},
};
use tokio::time::Instant;

use crate::{
    CELL_PIPE_CLASS, ConnectionSecurity, Credentials, DEFAULT_TIMEOUT, Delivery, InboxLimits, MessageType,
    Mode, OpenError, Pipe, PipeArgs, PipeError, PipeExport, PipeHost, PipeMessage, PipeNameError, Place,
    Side, Topic,
    host::{Describe, Lease, Settings},
    inbox::{Inbox, Offer},
    pipe_fqcn,
};

/// One side of a pipe through cells. Neither side listens; both dial the cell that they attach to.
///
/// ```no_run
/// # use cellnet_core::transport::mem::MemNet;
/// # use cellnet_pipe::{CellPipe, Mode, Pipe, PipeHost, PipeMessage, Place};
/// # async fn example(net: MemNet) -> Result<(), Box<dyn std::error::Error>> {
/// let host = PipeHost::new();
/// let root = Place::root("mem://hub".parse()?);
/// let pipe = CellPipe::builder(Mode::Active, "site-1", "job-7", root)
///     .host(&host)
///     .cell(move |cell| cell.transport(net.clone()))
///     .build()?;
/// pipe.open("task").await?;
/// let sent = pipe.send(&PipeMessage::new_request("train".parse()?, "weights"), None).await?;
/// assert!(sent.is_taken());
/// pipe.close().await;
/// # Ok(()) }
/// ```
pub struct CellPipe {
    mode: Mode,
    token: String,
    settings: Settings,
    describe: Describe,
    host: PipeHost,
    pass_through: bool,
    workspace: String,
    limits: InboxLimits,
    heartbeats: AtomicI64,
    open: Mutex<Option<Opened>>,
    /// Of the last opening: what was acknowledged can be received after the close, too.
    inbox: Mutex<Option<Arc<Inbox>>>,
}

/// What an open pipe has.
struct Opened {
    name: String,
    channel: ByteString,
    inbox: Arc<Inbox>,
    lease: Lease,
}

impl CellPipe {
    /// Begins to describe a side: which one, of which site, under which token, and the cell that it attaches to.
    pub fn builder(
        mode: Mode,
        site: impl Into<String>,
        token: impl Into<String>,
        place: Place,
    ) -> CellPipeBuilder {
        CellPipeBuilder {
            mode,
            site: site.into(),
            token: token.into(),
            place,
            credentials: Credentials::default(),
            describe: Arc::new(|cell| cell),
            host: PipeHost::new(),
            pass_through: false,
            workspace: String::new(),
            limits: InboxLimits::default(),
        }
    }

    /// The name of this side's cell.
    pub fn fqcn(&self) -> &Fqcn {
        &self.settings.me
    }

    /// The name of the peer's cell.
    pub fn peer(&self) -> &Fqcn {
        &self.settings.peer
    }

    /// The cell that this side attaches to.
    pub fn place(&self) -> &Place {
        &self.settings.place
    }

    /// The cell, while the pipe is open: to wait for its links, or to hear of them.
    pub fn cell(&self) -> Option<Cell> {
        self.opened().as_ref().map(|open| open.lease.shared().cell.clone())
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_inbox(&self) -> MutexGuard<'_, Option<Arc<Inbox>>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell_and_channel(&self) -> Result<(Cell, ByteString), PipeError> {
        let opened = self.opened();
        let open = opened.as_ref().ok_or(PipeError::NotOpen)?;
        Ok((open.lease.shared().cell.clone(), open.channel.clone()))
    }

    fn inbox(&self) -> Result<Arc<Inbox>, PipeError> {
        self.last_inbox().clone().ok_or(PipeError::NotOpen)
    }

    /// The headers that the reference's receiver looks for.
    fn stamp(&self, message: &PipeMessage, timeout: Duration) -> Message {
        let mut wire = message.to_wire();
        wire.headers.set(cn::MSG_ROOT_ID, message.msg_id.clone());
        if message.msg_type == MessageType::Reply {
            wire.headers.set(cn::MSG_ROOT_TTL, timeout.as_secs_f64());
        }
        if self.pass_through {
            wire.headers.set(cn::PASS_THROUGH, true);
        }
        wire
    }

    async fn send_heartbeat(&self, message: &PipeMessage, timeout: Duration) -> Result<Delivery, PipeError> {
        let (cell, channel) = self.cell_and_channel()?;
        let mut wire = message.to_wire();
        wire.headers.set(HB_SEQ, self.heartbeats.fetch_add(1, Relaxed) + 1);
        let told =
            cell.request(self.peer(), channel, Topic::HEARTBEAT.as_str(), wire).timeout(timeout).optional();
        Ok(told.tell().await.map_or_else(Delivery::Lost, |()| Delivery::Taken))
    }
}

#[async_trait]
impl Pipe for CellPipe {
    async fn open(&self, name: &str) -> Result<(), OpenError> {
        check_name(name)?;
        if self.opened().is_some() {
            return Err(OpenError::Already);
        }
        let lease = self.host.attach(&self.settings, &self.describe).await?;
        let mut opened = self.opened();
        if opened.is_some() {
            return Err(OpenError::Already);
        }
        let shared = lease.shared();
        if !shared.take_name(name) {
            let cell = self.fqcn().to_string();
            return Err(OpenError::NameTaken { cell, name: name.into() });
        }
        let channel = ByteString::from(format!("cell_pipe.{name}"));
        let inbox = Arc::new(Inbox::new(self.limits));
        let (to, peer) = (inbox.clone(), self.peer().clone());
        shared.cell.handle_quick(&channel, ANY, move |request| take(&to, &peer, request));
        *self.last_inbox() = Some(inbox.clone());
        *opened = Some(Opened { name: name.into(), channel, inbox, lease });
        Ok(())
    }

    async fn send(&self, message: &PipeMessage, timeout: Option<Duration>) -> Result<Delivery, PipeError> {
        let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT);
        let topic = &message.topic;
        if *topic == Topic::HEARTBEAT {
            return self.send_heartbeat(message, timeout).await;
        }
        let (cell, channel) = self.cell_and_channel()?;
        if *topic == Topic::PEER_GONE {
            let text = format!("'{topic}' is never sent");
            return Ok(Delivery::Refused { code: ReturnCode::INVALID_REQUEST, text });
        }
        let wire = self.stamp(message, timeout);
        let ask = cell.request(self.peer(), channel, topic.as_str(), wire).timeout(timeout);
        let ask = if topic.is_last() { ask.optional() } else { ask };
        Ok(match ask.await {
            Ok(reply) if reply.is_ok() => Delivery::Taken,
            Ok(reply) => Delivery::Refused {
                code: reply.code().unwrap_or(ReturnCode::PROCESS_EXCEPTION),
                text: reply.error().unwrap_or_default().to_owned(),
            },
            Err(error) => Delivery::Lost(error),
        })
    }

    async fn receive(&self, timeout: Option<Duration>) -> Result<Option<PipeMessage>, PipeError> {
        let inbox = self.inbox()?;
        inbox.receive(timeout).await
    }

    fn clear(&self) {
        if let Ok(inbox) = self.inbox() {
            inbox.clear();
        }
    }

    async fn close(&self) {
        let Some(Opened { name, channel, inbox, lease }) = self.opened().take() else { return };
        let shared = lease.shared();
        shared.cell.unhandle(&channel, ANY);
        inbox.close();
        shared.free_name(&name);
        lease.end().await;
    }

    fn last_peer_active(&self) -> Option<Instant> {
        self.opened().as_ref().and_then(|open| open.lease.shared().activity.last())
    }

    fn export(&self, side: Side) -> Option<PipeExport> {
        let mode = match side {
            Side::Own => self.mode,
            Side::Peer => self.mode.peer(),
        };
        let place = &self.settings.place;
        let secure = match place.security() {
            Some(security) => security != ConnectionSecurity::Clear,
            None => SECURE_SCHEMES.contains(&place.url().scheme().as_str()),
        };
        let args = PipeArgs {
            mode: mode.as_upper().into(),
            site_name: self.settings.site.clone(),
            token: self.token.clone(),
            root_url: place.url().to_string(),
            secure_mode: secure,
            workspace_dir: self.workspace.clone(),
        };
        Some(PipeExport { class: CELL_PIPE_CLASS.into(), args })
    }
}

impl Drop for CellPipe {
    fn drop(&mut self) {
        if let Some(open) = self.opened().take() {
            let shared = open.lease.shared();
            shared.cell.unhandle(&open.channel, ANY);
            shared.free_name(&open.name);
            open.inbox.close();
        }
    }
}

impl fmt::Debug for CellPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.opened().as_ref().map(|open| open.name.clone());
        f.debug_struct("CellPipe")
            .field("fqcn", self.fqcn())
            .field("place", &self.settings.place)
            .field("open", &name)
            .finish_non_exhaustive()
    }
}

/// Takes a message that arrived. `ok` with nothing in it says that it waits in this process.
fn take(inbox: &Inbox, peer: &Fqcn, request: Request) -> Result<Message, HandlerError> {
    if request.origin != *peer {
        // The reference says nothing, and the sender times out.
        let text = format!("this pipe takes messages of '{peer}' only, not of '{}'", request.origin);
        return Err(HandlerError::invalid_request(text));
    }
    let message = PipeMessage::from_wire(&request.topic, request.message)
        .map_err(|error| HandlerError::invalid_request(error.to_string()))?;
    if message.topic == Topic::HEARTBEAT {
        return Ok(Message::empty());
    }
    match inbox.offer(message) {
        Offer::Taken | Offer::Duplicate => Ok(Message::empty()),
        Offer::Full => Err(HandlerError::unavailable("too many messages wait in the pipe")),
        Offer::Closed => Err(HandlerError::unavailable("the pipe is closed")),
    }
}

fn check_name(name: &str) -> Result<(), OpenError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let good = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(valid);
    if good { Ok(()) } else { Err(OpenError::Name(name.into())) }
}

/// Describes a side of a pipe through cells.
#[must_use = "a pipe is made by `build`"]
pub struct CellPipeBuilder {
    mode: Mode,
    site: String,
    token: String,
    place: Place,
    credentials: Credentials,
    describe: Describe,
    host: PipeHost,
    pass_through: bool,
    workspace: String,
    limits: InboxLimits,
}

impl CellPipeBuilder {
    /// Shares the cell with other pipes of this host. Without it the pipe has a cell of its own.
    pub fn host(mut self, host: &PipeHost) -> Self {
        self.host = host.clone();
        self
    }

    /// Completes the description of the cell; at least a driver for the URL has to be added. Name, routing policy and
    /// URL are there already. Of pipes that share a cell, the first to open decides.
    pub fn cell(mut self, describe: impl Fn(CellBuilder) -> CellBuilder + Send + Sync + 'static) -> Self {
        self.describe = Arc::new(describe);
        self
    }

    /// What to show the cells that check who sends; `NA` without.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Asks the receiver to leave references to downloads alone. Off without.
    pub fn pass_through_on_send(mut self, pass_through: bool) -> Self {
        self.pass_through = pass_through;
        self
    }

    /// How much may wait until it is received. A message beyond that is refused, so its sender sends it again.
    pub fn inbox(mut self, limits: InboxLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The folder with certificates, as it stands in an export.
    pub fn workspace_dir(mut self, dir: impl Into<String>) -> Self {
        self.workspace = dir.into();
        self
    }

    /// Makes the pipe; it does nothing until it is opened.
    ///
    /// # Errors
    ///
    /// If site, token and place make no names for the two cells.
    pub fn build(self) -> Result<CellPipe, PipeNameError> {
        let name = |mode| pipe_fqcn(mode, &self.site, &self.token, self.place.fqcn());
        let (me, peer) = (name(self.mode)?, name(self.mode.peer())?);
        Ok(CellPipe {
            mode: self.mode,
            token: self.token,
            settings: Settings {
                me,
                peer,
                site: self.site,
                place: self.place,
                credentials: self.credentials,
            },
            describe: self.describe,
            host: self.host,
            pass_through: self.pass_through,
            workspace: self.workspace,
            limits: self.limits,
            heartbeats: AtomicI64::new(0),
            open: Mutex::new(None),
            inbox: Mutex::new(None),
        })
    }
}

impl fmt::Debug for CellPipeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellPipeBuilder")
            .field("mode", &self.mode)
            .field("site", &self.site)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Schemes that secure the connection by themselves.
const SECURE_SCHEMES: [&str; 5] = ["stcp", "https", "wss", "quic", "grpcs"];
/// A channel's name is part of the headers of every chunk.
const MAX_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use cellnet_core::wire::Value;
    use serde_json::Value as Json;

    use super::*;

    /// What the reference says in the headers of a task, a heartbeat, END and an answer; see
    /// `tests/data/cell_pipe.json`.
    #[test]
    fn messages_of_the_reference_are_read_and_stamped_alike() {
        let place = "server@mem://hub".parse().unwrap();
        let pipe = CellPipe::builder(Mode::Active, "site-1", "tok", place).build().unwrap();
        let observed: Vec<Json> = serde_json::from_str(include_str!("../tests/data/cell_pipe.json")).unwrap();
        assert_eq!(observed.len(), 4);
        for observed in observed {
            let observed = observed["headers"].as_object().unwrap();
            let own = |key: &str| !key.starts_with("sm__") && key != HB_SEQ;
            let headers: Vec<_> = observed.iter().filter(|(key, _)| own(key)).collect();
            let topic = observed["sm__tp"].as_str().unwrap();
            let mut came = Message::empty();
            headers.iter().for_each(|(key, found)| came.headers.set(key.as_str(), value(found)));
            let message = PipeMessage::from_wire(topic, came).unwrap();
            let stamped = match message.topic == Topic::HEARTBEAT {
                true => message.to_wire(),
                false => pipe.stamp(&message, Duration::from_secs(10)),
            };
            assert_eq!(stamped.headers.len(), headers.len(), "{:?}", stamped.headers);
            for (key, found) in headers {
                assert_eq!(stamped.headers.get(key), Some(value(found)), "{topic} {key}");
            }
        }
    }

    fn value(json: &Json) -> Value {
        match json {
            Json::String(text) => Value::Str(text.as_str().into()),
            other => Value::F64(other.as_f64().unwrap()),
        }
    }
}
