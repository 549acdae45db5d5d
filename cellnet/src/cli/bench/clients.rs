//! The cells of the process that asks.

use std::{sync::Arc, time::Duration};

use cellnet::{
    Cell, CellUrl, Fqcn, HandlerError, Message, Request, SHUTDOWN,
    pipe::{CellPipe, Mode, Pipe, Place},
};
use tokio::{task::JoinSet, time::Instant};

use super::{
    count::Count,
    ends,
    load::{Errand, Worker},
    run::Session,
    talk::{self, Attach, Attached, DELIVER, Named, Nothing, topic},
    workload::{Settings, Workload},
};
use crate::cli::{
    data, net,
    security::Trust,
    status::{Failure, Status, chain},
};

/// How the cells of this process join the network.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) trust: Trust,
    pub(super) heads: net::Heads,
    /// All of one cell.
    pub(super) urls: Vec<CellUrl>,
    /// The relay that is there, if it is one.
    pub(super) relay: Option<Fqcn>,
    pub(super) target: Fqcn,
    pub(super) timeout: Duration,
}

impl Way {
    /// Starts one more cell and waits for its link.
    pub(super) async fn join(&self) -> Result<Cell, Failure> {
        let began = Instant::now();
        let builder = self.heads.give(self.trust.builder(self.name()?));
        let cell = builder.dial_any(self.urls.clone()).start().await?;
        net::reach(&cell, &self.target, began, self.timeout).await?;
        Ok(cell)
    }

    /// A name that nobody else has. A relay passes on what comes from its children only.
    fn name(&self) -> Result<Fqcn, Failure> {
        let own = self.trust.random_name();
        let Some(relay) = &self.relay else { return Ok(own) };
        let below = format!("{relay}.{own}");
        below.parse().map_err(|error| Failure::usage(format!("no cell can be below '{relay}': {error}")))
    }

    /// The cell that everybody here attaches to, once it is known to be the one that was meant.
    pub(super) fn check(&self, cell: &Cell) -> Result<(Fqcn, CellUrl), Failure> {
        let gone = || {
            let text = format!("the connection to '{}' was lost at once", self.urls[0]);
            Failure::new(Status::PeerGone, text)
        };
        let (found, url) = cell.dialled().into_iter().next().ok_or_else(gone)?;
        let wrong = |advice: String| {
            Failure::new(Status::Unreachable, format!("the cell at '{url}' is '{found}'{advice}"))
                .with_code(cellnet::ReturnCode::TARGET_UNREACHABLE)
        };
        match &self.relay {
            Some(relay) if *relay != found => Err(wrong(format!(", not '{relay}'; correct --via"))),
            None if found != self.target && !found.is_server() => {
                Err(wrong(format!(", not '{}'; give --via {found}@{url}", self.target)))
            }
            _ => Ok((found, url)),
        }
    }

    /// The place that both ends of a pipe attach to.
    fn place(&self, attached: &Fqcn) -> Place {
        let (first, more) = self.urls.split_first().expect("there is a way");
        more.iter().cloned().fold(Place::new(attached.clone(), first.clone()), Place::or)
    }
}

/// All that works in a run.
#[derive(Debug)]
pub(super) struct Crew {
    way: Way,
    settings: Settings,
    message: Message,
    cells: Vec<Cell>,
    pipes: Vec<Arc<CellPipe>>,
    /// What broadcasts brought.
    delivered: Arc<Count>,
}

impl Crew {
    /// Connects as many as there should be.
    pub(super) async fn gather(way: &Way, settings: Settings, session: &Session) -> Result<Self, Failure> {
        let Settings { workload, connections, .. } = settings;
        let mut crew = Self {
            way: way.clone(),
            settings,
            message: Message::new(data::noise(if workload.has_payload() { settings.size } else { 0 }, 1)),
            cells: Vec::new(),
            pipes: Vec::new(),
            delivered: Arc::new(Count::new()),
        };
        match workload {
            Workload::Churn => {}
            Workload::Pipe => {
                for _ in 0..connections {
                    crew.pipes.push(Arc::new(crew.pipe(session).await?));
                }
            }
            _ => {
                let joining = (0..connections).map(|_| {
                    let way = way.clone();
                    async move { way.join().await }
                });
                crew.cells = all(joining).await?;
            }
        }
        if workload == Workload::Fan {
            let joining = crew.cells.iter().map(|cell| {
                let (cell, session, delivered) = (cell.clone(), session.clone(), crew.delivered.clone());
                async move {
                    cell.handle_quick(&talk::channel(Workload::Fan), DELIVER, move |_: Request| {
                        delivered.note();
                        Ok::<_, HandlerError>(Message::empty())
                    });
                    session
                        .ask_by::<Nothing>(&cell, topic::JOIN, &Named { session: session.id.clone() })
                        .await
                }
            });
            all(joining).await?;
        }
        Ok(crew)
    }

    async fn pipe(&self, session: &Session) -> Result<CellPipe, Failure> {
        let Way { trust, timeout, .. } = &self.way;
        // A certificate allows the pipes of its own site.
        let site = trust.common_name().unwrap_or("bench").to_owned();
        let attach = Attach {
            session: session.id.clone(),
            site: site.clone(),
            to: session.attached.to_string(),
            scheme: session.url.scheme().to_string(),
        };
        let Attached { token } = session.ask(topic::ATTACH, &attach).await?;
        let own = trust.clone();
        let pipe = CellPipe::builder(Mode::Active, site, token, self.way.place(&session.attached))
            .cell(move |cell| own.give(cell))
            .build()
            .map_err(|error| Failure::usage(chain(&error)))?;
        let began = Instant::now();
        pipe.open(ends::NAME).await.map_err(|error| Failure::new(Status::Failed, chain(&error)))?;
        let cell = pipe.cell().expect("the pipe is open");
        net::reach(&cell, pipe.peer(), began, *timeout).await?;
        Ok(pipe)
    }

    /// The workers of a round, and how many messages each of their doings is.
    pub(super) fn workers(&self, session: &Session, round: u32) -> Vec<Worker> {
        let Settings { workload, inflight, connections, .. } = self.settings;
        let timeout = self.way.timeout;
        let ask = |cell: &Cell| Errand {
            cell: cell.clone(),
            target: self.way.target.clone(),
            channel: talk::channel(workload),
            topic: talk::load_topic(workload, round),
            message: self.message.clone(),
            timeout,
        };
        let by_cell = |worker: fn(Errand) -> Worker| {
            let each = self.cells.iter().flat_map(|cell| std::iter::repeat_n(cell, inflight));
            each.map(|cell| worker(ask(cell))).collect()
        };
        match workload {
            Workload::Rr | Workload::Srr | Workload::Blob => by_cell(Worker::Ask),
            Workload::Push => by_cell(Worker::Tell),
            Workload::Fan => (0..inflight).map(|_| Worker::Ask(ask(&session.control))).collect(),
            Workload::Pipe => {
                let each = self.pipes.iter().flat_map(|pipe| std::iter::repeat_n(pipe, inflight));
                let payload = self.message.payload.clone();
                each.map(|pipe| Worker::Send { pipe: pipe.clone(), payload: payload.clone(), timeout })
                    .collect()
            }
            Workload::Churn => {
                (0..connections * inflight).map(|_| Worker::Join(Box::new(self.way.clone()))).collect()
            }
        }
    }

    /// Messages that one doing of a worker is.
    pub(super) fn fold(&self) -> u64 {
        if self.settings.workload == Workload::Fan { self.cells.len() as u64 } else { 1 }
    }

    /// Messages that have arrived here, where this is the side that receives them.
    pub(super) fn delivered(&self) -> Option<u64> {
        (self.settings.workload == Workload::Fan).then(|| self.delivered.received())
    }

    /// Closes everything.
    pub(super) async fn dismiss(self) {
        let mut closing = JoinSet::new();
        for cell in self.cells {
            make_room(&mut closing).await;
            closing.spawn(async move { cell.shutdown(SHUTDOWN).await });
        }
        for pipe in self.pipes {
            make_room(&mut closing).await;
            closing.spawn(async move { pipe.close().await });
        }
        closing.join_all().await;
    }
}

async fn make_room<T: 'static>(tasks: &mut JoinSet<T>) {
    if tasks.len() >= AT_ONCE {
        tasks.join_next().await;
    }
}

/// Does all of it, some at once; the first failure ends it.
async fn all<T: Send + 'static>(
    what: impl Iterator<Item = impl Future<Output = Result<T, Failure>> + Send + 'static>,
) -> Result<Vec<T>, Failure> {
    let (mut tasks, mut done) = (JoinSet::new(), Vec::new());
    let whole = |ended: Result<Result<T, Failure>, tokio::task::JoinError>| {
        ended.expect("nobody aborts them, and they do not panic")
    };
    for one in what {
        if tasks.len() >= AT_ONCE {
            let ended = tasks.join_next().await.expect("there are some");
            done.push(whole(ended)?);
        }
        tasks.spawn(one);
    }
    while let Some(ended) = tasks.join_next().await {
        done.push(whole(ended)?);
    }
    Ok(done)
}

/// Well below the connections that a listener lets wait.
const AT_ONCE: usize = 64;
