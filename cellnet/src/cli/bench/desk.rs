//! Whose turn it is, and what the serving cell does for that run.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytestring::ByteString;
use cellnet::{ANY, Cell, Fqcn, HandlerError, Message, Request, ReturnCode, cell::WeakCell};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::{
    count::Count,
    ends::{End, Places},
    talk::{self, Attach, Attached, Begin, CONTROL, Named, Nothing, Open, Opened, Seen, topic},
    workload::{MAX_CONNECTIONS, MAX_INFLIGHT, MAX_PIPES, Workload},
};
use crate::cli::{
    figures::{self, Watch},
    security::Trust,
};

/// Serves one run after the other: of two at once, neither would know whose processor time it measured.
#[derive(Debug)]
pub(super) struct Desk {
    cell: WeakCell,
    places: Places,
    trust: Trust,
    session: Mutex<Option<Session>>,
    /// Messages of broadcasts that are on their way, of which each costs memory.
    room: Arc<Semaphore>,
}

/// A run that is served.
#[derive(Debug)]
struct Session {
    id: String,
    workload: Workload,
    timeout: Duration,
    /// When something was last heard of it.
    heard: Instant,
    /// MiB that this process held when it began.
    resident: Option<f64>,
    targets: HashSet<Fqcn>,
    pipes: Vec<End>,
    /// Ends of pipes that are there, or are being opened.
    taken: usize,
    /// Pipes count here all the time, other workloads anew in each round.
    count: Arc<Count>,
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    number: u32,
    /// What had been counted before it.
    before: u64,
    watch: Watch,
}

impl Session {
    fn is_for(&self, workload: Workload) -> Result<(), HandlerError> {
        if self.workload == workload {
            return Ok(());
        }
        Err(HandlerError::invalid_request(format!("this is for '{workload}', not for '{}'", self.workload)))
    }
}

impl Desk {
    /// Serves by a cell.
    pub(super) fn open(cell: &Cell, places: Places, trust: Trust) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(MAX_INFLIGHT));
        let desk = Arc::new(Self { cell: cell.downgrade(), places, trust, session: Mutex::default(), room });
        let serving = desk.clone();
        cell.handle(CONTROL, ANY, move |request| {
            let desk = serving.clone();
            async move { desk.serve(request).await }
        });
        desk
    }

    /// Ends sessions that nothing is heard of any more, for ever.
    pub(super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SILENCE / 4).await;
            let silent = self.session().take_if(|session| session.heard.elapsed() > SILENCE);
            if let Some(silent) = silent {
                tracing::warn!("nothing was heard of a run for {SILENCE:?}; the next one may begin");
                self.end_session(silent).await;
            }
        }
    }

    /// Ends what there is.
    pub(super) async fn close(&self) {
        let session = self.session().take();
        if let Some(session) = session {
            self.end_session(session).await;
        }
    }

    async fn serve(&self, request: Request) -> Result<Message, HandlerError> {
        let Request { message, origin, topic, .. } = request;
        match &*topic {
            topic::OPEN => self.begin_session(&talk::read(&message)?),
            topic::ATTACH => self.attach(talk::read(&message)?).await,
            topic::JOIN => self.join(&talk::read(&message)?, origin),
            topic::BEGIN => self.begin(&talk::read(&message)?),
            topic::END => self.end(talk::read(&message)?).await,
            topic::ALIVE => {
                let Named { session } = talk::read(&message)?;
                self.with(&session, |_| Ok(talk::write(&Nothing {})))
            }
            topic::CLOSE => {
                let Named { session } = talk::read(&message)?;
                let closed = self.session().take_if(|current| current.id == session);
                match closed {
                    Some(closed) => self.end_session(closed).await,
                    None => return Err(over()),
                }
                Ok(talk::write(&Nothing {}))
            }
            other => Err(HandlerError::invalid_request(format!("'{other}' is nothing that can be asked"))),
        }
    }

    fn begin_session(&self, asked: &Open) -> Result<Message, HandlerError> {
        let mut current = self.session();
        if current.is_some() {
            return Err(HandlerError::unavailable("another run is under way"));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let timeout = Duration::try_from_secs_f64(asked.timeout_s).unwrap_or(LONGEST).min(LONGEST);
        *current = Some(Session {
            id: id.clone(),
            workload: asked.workload,
            timeout,
            heard: Instant::now(),
            resident: figures::resident_mib(),
            targets: HashSet::new(),
            pipes: Vec::new(),
            taken: 0,
            count: Arc::new(Count::new()),
            round: None,
        });
        tracing::info!("a run of '{}' begins", asked.workload);
        Ok(talk::write(&Opened { session: id }))
    }

    async fn attach(&self, asked: Attach) -> Result<Message, HandlerError> {
        let (token, count) = self.with(&asked.session, |session| {
            session.is_for(Workload::Pipe)?;
            if session.taken >= MAX_PIPES {
                return Err(HandlerError::unavailable(format!("{MAX_PIPES} pipes are there already")));
            }
            session.taken += 1;
            Ok((format!("{}-{}", session.id, session.taken), session.count.clone()))
        })?;
        let end = End::open(&self.places, &self.trust, &asked, &token, count).await?;
        let mut late = Some(end);
        let kept = self.with(&asked.session, |session| {
            session.pipes.extend(late.take());
            Ok(talk::write(&Attached { token }))
        });
        if let Some(late) = late {
            late.close().await;
        }
        kept
    }

    fn join(&self, asked: &Named, origin: Fqcn) -> Result<Message, HandlerError> {
        self.with(&asked.session, |session| {
            session.is_for(Workload::Fan)?;
            if session.targets.len() >= MAX_CONNECTIONS {
                return Err(HandlerError::unavailable(format!(
                    "{MAX_CONNECTIONS} cells have joined already"
                )));
            }
            session.targets.insert(origin);
            Ok(talk::write(&Nothing {}))
        })
    }

    fn begin(&self, asked: &Begin) -> Result<Message, HandlerError> {
        let cell = self.cell()?;
        self.with(&asked.session, |session| {
            if session.round.is_some() {
                return Err(HandlerError::invalid_request("a round is under way"));
            }
            if session.workload != Workload::Pipe {
                session.count = Arc::new(Count::new());
            }
            self.expect_load(&cell, session, asked.round);
            figures::forget_peak();
            let before = session.count.received();
            session.round = Some(Round { number: asked.round, before, watch: Watch::start() });
            Ok(talk::write(&Nothing {}))
        })
    }

    /// Answers the messages of a round.
    fn expect_load(&self, cell: &Cell, session: &Session, round: u32) {
        let (workload, count) = (session.workload, session.count.clone());
        let (channel, topic) = (talk::channel(workload), talk::load_topic(workload, round));
        match workload {
            Workload::Rr | Workload::Srr => cell.handle_quick(&channel, &topic, move |request: Request| {
                count.note();
                Ok::<_, HandlerError>(Message::new(request.message.payload))
            }),
            Workload::Push | Workload::Blob => cell.handle_quick(&channel, &topic, move |_: Request| {
                count.note();
                Ok::<_, HandlerError>(Message::empty())
            }),
            Workload::Fan => {
                let fan = Arc::new(Fan {
                    cell: self.cell.clone(),
                    targets: session.targets.iter().cloned().collect(),
                    timeout: session.timeout,
                    room: self.room.clone(),
                });
                cell.handle(&channel, &topic, move |request: Request| {
                    let fan = fan.clone();
                    async move { fan.out(request.message).await }
                });
            }
            Workload::Pipe | Workload::Churn | Workload::Idle => {}
        }
    }

    async fn end(&self, asked: talk::End) -> Result<Message, HandlerError> {
        let (count, before, workload, resident) = self.with(&asked.session, |session| {
            let round = session.round.as_ref().filter(|round| round.number == asked.round);
            let round = round.ok_or_else(|| HandlerError::invalid_request("no such round is under way"))?;
            Ok((session.count.clone(), round.before, session.workload, session.resident))
        })?;
        let counts = !matches!(workload, Workload::Fan | Workload::Churn | Workload::Idle);
        let resident = resident.filter(|_| workload == Workload::Idle);
        if counts {
            count.arrive(before.saturating_add(asked.sent), PATIENCE).await;
        }
        let cell = self.cell()?;
        let round = self.with(&asked.session, |session| {
            let round = session.round.take_if(|round| round.number == asked.round);
            round.ok_or_else(|| HandlerError::invalid_request("the round has ended already"))
        })?;
        unregister(&cell, workload, round.number);
        Ok(talk::write(&Seen {
            received: counts.then(|| count.received().saturating_sub(round.before)),
            seconds: count.seconds(),
            cpu_s: round.watch.cpu(),
            peak_mib: figures::peak_mib(),
            grown_mib: figures::resident_mib().zip(resident).map(|(now, then)| now - then),
        }))
    }

    /// Does something for a session that is still the current one, and notes that it lives.
    fn with<T>(
        &self,
        id: &str,
        what: impl FnOnce(&mut Session) -> Result<T, HandlerError>,
    ) -> Result<T, HandlerError> {
        let mut current = self.session();
        let session = current.as_mut().filter(|session| session.id == id);
        let session = session.ok_or_else(over)?;
        session.heard = Instant::now();
        what(session)
    }

    async fn end_session(&self, session: Session) {
        if let (Some(round), Ok(cell)) = (&session.round, self.cell()) {
            unregister(&cell, session.workload, round.number);
        }
        session.pipes.into_iter().map(End::close).collect::<JoinSet<_>>().join_all().await;
        tracing::info!("the run of '{}' has ended", session.workload);
    }

    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self) -> Result<Cell, HandlerError> {
        self.cell.upgrade().ok_or_else(|| HandlerError::unavailable("the cell stops"))
    }
}

fn over() -> HandlerError {
    HandlerError::new(ReturnCode::INVALID_SESSION, "the session is over, or was silent for too long")
}

fn unregister(cell: &Cell, workload: Workload, round: u32) {
    cell.unhandle(&talk::channel(workload), &talk::load_topic(workload, round));
}

/// Broadcasts what it is given to the cells that joined.
#[derive(Debug)]
struct Fan {
    cell: WeakCell,
    targets: Vec<Fqcn>,
    timeout: Duration,
    room: Arc<Semaphore>,
}

impl Fan {
    /// Answers when all targets have, with the first failure if there was one.
    async fn out(&self, message: Message) -> Result<Message, HandlerError> {
        let cell = self.cell.upgrade().ok_or_else(|| HandlerError::unavailable("the cell stops"))?;
        let all = u32::try_from(self.targets.len()).expect("few cells can join");
        let _room = self.room.acquire_many(all).await.expect("the semaphore is never closed");
        let message = Message::new(message.payload);
        let channel = talk::channel(Workload::Fan);
        let topic = ByteString::from_static(talk::DELIVER);
        for (target, outcome) in cell.broadcast(&self.targets, channel, topic, message, self.timeout).await {
            let reply =
                outcome.map_err(|error| HandlerError::new(error.code(), format!("'{target}': {error}")))?;
            if !reply.is_ok() {
                let code = reply.code().unwrap_or(ReturnCode::PROCESS_EXCEPTION);
                let why = reply.error().unwrap_or_default();
                return Err(HandlerError::new(code, format!("'{target}' answered {why}")));
            }
        }
        Ok(Message::empty())
    }
}

/// A run that says nothing for so long is gone, and the next one may begin.
const SILENCE: Duration = Duration::from_secs(10);
/// How long nothing may arrive before the rest counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest time-out that a run can ask for.
const LONGEST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        security::Security,
        status::{Failure, Status},
    };

    /// A cell that asks itself.
    struct Asking {
        cell: Cell,
        desk: Arc<Desk>,
    }

    impl Asking {
        async fn new() -> Self {
            let cell = Cell::builder(Fqcn::server()).start().await.unwrap();
            let places =
                Places { me: Fqcn::server(), listening: Vec::new(), root: Vec::new(), parent: Vec::new() };
            let trust = Security::default().load([]).unwrap();
            let desk = Desk::open(&cell, places, trust);
            Self { cell, desk }
        }

        async fn ask<T: serde::de::DeserializeOwned>(
            &self,
            topic: &'static str,
            words: &(impl serde::Serialize + Sync),
        ) -> Result<T, Failure> {
            talk::ask(&self.cell, self.cell.name(), topic, words, LONGEST).await
        }

        async fn open(&self, workload: Workload) -> Result<String, Failure> {
            let opened = self.ask::<Opened>(topic::OPEN, &Open { workload, timeout_s: 1.0 }).await;
            opened.map(|opened| opened.session)
        }

        async fn send(&self, workload: Workload, round: u32) -> Message {
            let (channel, topic) = (talk::channel(workload), talk::load_topic(workload, round));
            self.cell.request(self.cell.name(), channel, topic, Message::new("abc")).await.unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_has_its_turn_until_it_closes_or_is_silent() {
        let asking = Asking::new().await;
        let session = asking.open(Workload::Rr).await.unwrap();
        let busy = asking.open(Workload::Rr).await.unwrap_err();
        assert_eq!((busy.status, busy.code), (Status::Limit, Some(ReturnCode::SERVICE_UNAVAILABLE)));
        let named = |session: &str| Named { session: session.into() };
        assert!(asking.ask::<Nothing>(topic::CLOSE, &named("another")).await.is_err());
        asking.ask::<Nothing>(topic::CLOSE, &named(&session)).await.unwrap();

        let session = asking.open(Workload::Rr).await.unwrap();
        let sweeping = tokio::spawn({
            let desk = asking.desk.clone();
            async move { desk.sweep().await }
        });
        for _ in 0..5 {
            tokio::time::sleep(SILENCE / 2).await;
            asking.ask::<Nothing>(topic::ALIVE, &named(&session)).await.unwrap();
        }
        tokio::time::sleep(SILENCE * 2).await;
        let over = asking.ask::<Nothing>(topic::ALIVE, &named(&session)).await.unwrap_err();
        assert_eq!(over.code, Some(ReturnCode::INVALID_SESSION));
        asking.open(Workload::Push).await.unwrap();
        sweeping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_counts_what_comes_in_it_and_tells_what_did_not_come() {
        let asking = Asking::new().await;
        let session = asking.open(Workload::Srr).await.unwrap();
        let begin = |round| Begin { session: session.clone(), round };
        let end = |round, sent| talk::End { session: session.clone(), round, sent };
        asking.ask::<Nothing>(topic::BEGIN, &begin(0)).await.unwrap();
        assert!(asking.ask::<Nothing>(topic::BEGIN, &begin(1)).await.is_err(), "two rounds at once");
        assert_eq!(asking.send(Workload::Srr, 0).await.payload.as_bytes(), b"abc");
        let seen: Seen = asking.ask(topic::END, &end(0, 1)).await.unwrap();
        assert_eq!(seen.received, Some(1));
        assert!(!asking.send(Workload::Srr, 0).await.is_ok(), "what comes late is for nobody");

        asking.ask::<Nothing>(topic::BEGIN, &begin(1)).await.unwrap();
        asking.send(Workload::Srr, 1).await;
        let began = Instant::now();
        let seen: Seen = asking.ask(topic::END, &end(1, u64::MAX)).await.unwrap();
        assert_eq!((seen.received, began.elapsed()), (Some(1), PATIENCE));
        assert!(asking.ask::<Seen>(topic::END, &end(1, 1)).await.is_err(), "a round ends once");
    }

    #[tokio::test]
    async fn what_a_workload_has_no_use_for_is_refused() {
        let asking = Asking::new().await;
        let session = asking.open(Workload::Rr).await.unwrap();
        let attach =
            Attach { session: session.clone(), site: "s".into(), to: "server".into(), scheme: "tcp".into() };
        assert!(asking.ask::<Attached>(topic::ATTACH, &attach).await.is_err());
        let joined = asking.ask::<Nothing>(topic::JOIN, &Named { session }).await;
        assert_eq!(joined.unwrap_err().status, Status::Failed);
        assert_eq!(asking.ask::<Nothing>("fly", &Nothing {}).await.unwrap_err().status, Status::Failed);
    }
}
