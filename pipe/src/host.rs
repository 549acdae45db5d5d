//! Cells that pipes share.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cellnet_core::{
    Fqcn,
    cell::{ANY, Cell, CellBuilder, Passing, SHUTDOWN, Stage, StartError},
    message::MessageKind,
    wire::keys::cn,
};
use tokio::{runtime::Handle, sync::OnceCell, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{OpenError, Place, TreePolicy, activity::Activity};

/// Lets pipes whose cell has the same name share that cell, which ends with the last of them. Clones are the same host.
///
/// A process that opens several pipes keeps one host and gives it to all of them.
#[derive(Debug, Clone, Default)]
pub struct PipeHost {
    cells: Arc<Mutex<HashMap<Fqcn, Slot>>>,
}

/// What a process shows the cells that check who sends, on every message. Source: `fuel/utils/pipe/cell_pipe.py`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The token that the server gave to the site.
    pub token: String,
    /// The server's signature of site and token.
    pub signature: String,
}

impl Default for Credentials {
    /// What the reference sends if there are none: `NA`.
    fn default() -> Self {
        Self { token: "NA".into(), signature: "NA".into() }
    }
}

/// Never shows the secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// What all pipes of a cell must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) me: Fqcn,
    pub(crate) peer: Fqcn,
    pub(crate) site: String,
    pub(crate) place: Place,
    pub(crate) credentials: Credentials,
}

/// Adds to the description of a cell what only the program knows: drivers, sizes.
pub(crate) type Describe = Arc<dyn Fn(CellBuilder) -> CellBuilder + Send + Sync>;

/// A cell and how many pipes use it.
#[derive(Debug)]
struct Slot {
    settings: Settings,
    pipes: usize,
    shared: Arc<OnceCell<Shared>>,
    /// Cancelled when the cell is gone and its name free.
    gone: CancellationToken,
}

/// A cell that runs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cell: Cell,
    /// When anything came from the peer.
    pub(crate) activity: Arc<Activity>,
    names: Mutex<HashSet<String>>,
}

impl PipeHost {
    /// A host without cells.
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins the cell, or starts it. If it is just ending, waits for that first. A dropped future leaves nothing
    /// behind.
    pub(crate) async fn attach(&self, settings: &Settings, describe: &Describe) -> Result<Lease, OpenError> {
        let lease = loop {
            match self.try_attach(settings)? {
                Ok(lease) => break lease,
                Err(gone) => gone.cancelled().await,
            }
        };
        lease.shared.get_or_try_init(|| start(settings, describe)).await?;
        Ok(lease)
    }

    /// Counts one more pipe, or says what to wait for.
    fn try_attach(&self, settings: &Settings) -> Result<Result<Lease, CancellationToken>, OpenError> {
        let mut cells = self.cells();
        let slot = cells.entry(settings.me.clone()).or_insert_with(|| Slot {
            settings: settings.clone(),
            pipes: 0,
            shared: Arc::default(),
            gone: CancellationToken::new(),
        });
        let ending = slot.pipes == 0 && slot.shared.initialized();
        if ending {
            return Ok(Err(slot.gone.clone()));
        }
        if slot.settings != *settings {
            return Err(OpenError::Conflict(settings.me.to_string()));
        }
        slot.pipes += 1;
        Ok(Ok(Lease {
            host: self.clone(),
            me: settings.me.clone(),
            shared: slot.shared.clone(),
            ended: false,
        }))
    }

    /// Counts one pipe less. If it was the last, gives the cell, which nobody joins any more and which has to be ended;
    /// a name whose cell never started is free at once.
    fn detach(&self, me: &Fqcn) -> Option<Cell> {
        let mut cells = self.cells();
        let slot = cells.get_mut(me)?;
        slot.pipes -= 1;
        if slot.pipes > 0 {
            return None;
        }
        let cell = slot.shared.get().map(|shared| shared.cell.clone());
        if cell.is_none() {
            let slot = cells.remove(me);
            // Waking others is not done under the lock.
            drop(cells);
            slot.inspect(|slot| slot.gone.cancel());
        }
        cell
    }

    fn forget(&self, me: &Fqcn) {
        let slot = self.cells().remove(me);
        if let Some(slot) = slot {
            slot.gone.cancel();
        }
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<Fqcn, Slot>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pipe's share of a cell. If it is dropped without [`end`](Self::end) and was the last, the cell is ended at once,
/// whoever holds a clone of it.
#[derive(Debug)]
pub(crate) struct Lease {
    host: PipeHost,
    me: Fqcn,
    shared: Arc<OnceCell<Shared>>,
    ended: bool,
}

impl Lease {
    /// The cell that the host started before it gave the lease away.
    pub(crate) fn shared(&self) -> &Shared {
        self.shared.get().expect("a host starts the cell before it gives a lease away")
    }

    /// Gives the share back and, if it was the last, ends the cell. A dropped future leaves that to a task.
    pub(crate) async fn end(mut self) {
        if let Some(ending) = self.give_back(SHUTDOWN) {
            // It fails only with the runtime, and then nobody is left to be told.
            let _ = ending.await;
        }
    }

    /// Begins to end the cell if this was its last share. Its name is free when it is gone.
    fn give_back(&mut self, deadline: Duration) -> Option<JoinHandle<()>> {
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        let cell = self.host.detach(&self.me)?;
        let forget = Forget { host: self.host.clone(), me: self.me.clone() };
        // Without a runtime nothing of the cell runs, and only its name is left to be freed.
        let runtime = Handle::try_current().ok()?;
        Some(runtime.spawn(async move {
            cell.shutdown(deadline).await;
            drop(cell);
            drop(forget);
        }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back(Duration::ZERO);
    }
}

/// Frees the name of a cell, even if ending it was cut short.
struct Forget {
    host: PipeHost,
    me: Fqcn,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.host.forget(&self.me);
    }
}

impl Shared {
    /// Takes a name of a pipe. Whether it was free.
    pub(crate) fn take_name(&self, name: &str) -> bool {
        self.names().insert(name.to_owned())
    }

    pub(crate) fn free_name(&self, name: &str) {
        self.names().remove(name);
    }

    fn names(&self) -> MutexGuard<'_, HashSet<String>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn start(settings: &Settings, describe: &Describe) -> Result<Shared, StartError> {
    let urls = settings.place.secured_urls();
    let plain = Cell::builder(settings.me.clone()).resolver(TreePolicy).dial_any(urls);
    let cell = describe(plain).start().await?;
    let activity = Arc::new(Activity::new());
    show_credentials(&cell, settings);
    watch_peer(&cell, settings.peer.clone(), activity.clone());
    Ok(Shared { cell, activity, names: Mutex::default() })
}

/// Puts the credentials on all that this cell sends: acknowledgements are streams too and are checked like requests.
fn show_credentials(cell: &Cell, settings: &Settings) {
    let Credentials { token, signature } = settings.credentials.clone();
    let headers: [(&str, bytestring::ByteString); 3] =
        [(CLIENT_NAME, settings.site.clone().into()), (TOKEN, token.into()), (SIGNATURE, signature.into())];
    for stage in [Stage::OutgoingRequest, Stage::OutgoingReply] {
        let headers = headers.clone();
        cell.add_filter(stage, ANY, ANY, move |passing: &mut Passing<'_>| {
            for (key, value) in &headers {
                passing.headers.set(*key, value.clone());
            }
            Ok(())
        });
    }
}

/// Notes whatever request or reply of the peer arrives, on any channel, chunk by chunk.
fn watch_peer(cell: &Cell, peer: Fqcn, activity: Arc<Activity>) {
    cell.add_filter(Stage::Incoming, ANY, ANY, move |passing: &mut Passing<'_>| {
        let says_something = matches!(passing.kind, Some(MessageKind::Request | MessageKind::Reply));
        if says_something && passing.headers.text(cn::ORIGIN).is_some_and(|origin| origin == peer.as_str()) {
            activity.mark();
        }
        Ok(())
    });
}

// Headers that identify a site. Source: `fuel/f3/cellnet/defs.py`, `private/defs.py`.
const CLIENT_NAME: &str = "client_name";
const TOKEN: &str = "__token__";
const SIGNATURE: &str = "__token_signature__";
