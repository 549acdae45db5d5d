//! Files to and from cells that know no transfers, such as those of the reference: by its download service.
//!
//! That service moves a file but has no word for "here is one". So there is a message before, on the channel
//! [`CHANNEL`], which a Python cell answers with a call-back of a few lines:
//!
//! ```text
//! take   {"path", "size", "sha256", "fqcn", "ref_id"}   download this from there; then answer, {"size", "sha256"} if you can
//! give   {"path"}                                       {"fqcn", "ref_id", "size", "sha256"}; the last two if you can
//! ```
//!
//! A path that is itself the name of a reference is pulled without a message.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cellnet::{
    Cell, Fqcn, Message, Payload, RequestError, ReturnCode,
    fobs::{self, Document, Object},
    pipe::download::{Downloads, Offer, OfferError, PullError, Transaction},
    transfer,
    wire::Limits,
};
use sha2::{Digest, Sha256};

use super::{
    follow::{Ended, Lost},
    view::{Reach, Shown},
};
use crate::cli::status::{Status, chain};

/// The channel of the message before a download.
const CHANNEL: &str = "cellnet_file";
const TAKE: &str = "take";
const GIVE: &str = "give";

/// Whether a cell takes part in transfers. One that cannot be asked now counts as if it did, since they wait for it.
pub(crate) async fn knows_transfers(cell: &Cell, target: &Fqcn, within: Duration) -> bool {
    // An offer of nothing: who knows offers refuses it with a reason.
    let asked =
        cell.request(target, transfer::CHANNEL, transfer::OFFER, Message::empty()).timeout(within).await;
    let Ok(reply) = asked else { return true };
    reply.headers.text(transfer::REASON).is_some() || reply.code() != Some(ReturnCode::PROCESS_EXCEPTION)
}

/// Why a file did not go by a download.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error(
        "'{0}' takes no transfers, and by downloads only files go, not folders or standard input ('{1}')"
    )]
    NoFile(Fqcn, String),
    #[error(
        "'{0}' knows neither transfers nor the channel '{CHANNEL}'; run it with cellnet serve --inbox, or --outbox to fetch from it, or add a call-back"
    )]
    Deaf(Fqcn),
    #[error("'{0}' refused '{1}' with {2}: {3}")]
    Refused(Fqcn, String, ReturnCode, String),
    #[error("'{0}' answered what makes no sense: {1}")]
    Nonsense(Fqcn, &'static str),
    #[error("'{0}' has something else than was sent: {1}")]
    Differs(String, String),
    #[error("cannot read '{0}'")]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot put '{0}' into place")]
    Place(PathBuf, #[source] io::Error),
    #[error("no answer")]
    Request(#[from] RequestError),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error(transparent)]
    Pull(#[from] PullError),
}

/// Sends files, one after the other; each is there when the other side has said so.
pub(crate) async fn push(
    cell: Cell,
    files: Vec<PathBuf>,
    target: Fqcn,
    path: String,
    patience: Duration,
    mut shown: Shown,
) -> Ended {
    let mut reach = Reach { begun: true, ..Reach::default() };
    let mut hash = None;
    for file in &files {
        let one = Sending { cell: &cell, file, target: &target, path: &path, patience };
        match one.run(&mut reach, &mut shown).await {
            Ok(sha256) => hash = Some(sha256),
            Err(error) => return over(shown, reach, Err(error)),
        }
    }
    over(shown, reach, Ok(hash.unwrap_or_default()))
}

/// Fetches a file into a folder.
pub(crate) async fn pull(
    cell: Cell,
    target: Fqcn,
    path: String,
    dir: PathBuf,
    overwrite: bool,
    patience: Duration,
    mut shown: Shown,
) -> Ended {
    let mut reach = Reach { begun: true, ..Reach::default() };
    let fetching = Fetching { cell: &cell, target: &target, path: &path, dir: &dir, overwrite, patience };
    let outcome = fetching.run(&mut reach, &mut shown).await;
    over(shown, reach, outcome)
}

/// What has no name of its own, or no end, cannot go by a download.
pub(crate) fn unable(target: &Fqcn, mut shown: Shown) -> Ended {
    let error = DownloadError::NoFile(target.clone(), "-".into());
    // Who cannot be told of it is told the error later.
    let _ = shown.end(Reach::default(), Some(&error.to_string()));
    Ended { reach: Reach::default(), outcome: Err(Lost::Download(error)) }
}

fn over(mut shown: Shown, reach: Reach, outcome: Result<String, DownloadError>) -> Ended {
    let error = outcome.as_ref().err().map(|error| chain(error));
    let told = shown.end(reach, error.as_deref());
    let outcome = outcome.map_err(Lost::Download);
    let outcome = outcome.and_then(|sha256| told.map(|()| format!("sha256:{sha256}")).map_err(Lost::Output));
    Ended { reach, outcome }
}

/// One file on its way there.
struct Sending<'a> {
    cell: &'a Cell,
    file: &'a Path,
    target: &'a Fqcn,
    path: &'a str,
    patience: Duration,
}

impl Sending<'_> {
    /// Gives the digest.
    async fn run(&self, reach: &mut Reach, shown: &mut Shown) -> Result<String, DownloadError> {
        let Self { cell, file, target, path, patience } = *self;
        let name = file.file_name().filter(|_| file.is_file());
        let no_file = || DownloadError::NoFile(target.clone(), file.display().to_string());
        let name = name.ok_or_else(no_file)?.to_string_lossy();
        let path =
            if path.is_empty() || path.ends_with('/') { format!("{path}{name}") } else { path.to_owned() };
        let (size, sha256) = digest(file).await?;
        let offer = Offer::to(target.clone()).ttl(patience);
        let (source, transaction) = Downloads::attach(cell).offer_file(file, offer).await?;
        let told: Object = [
            ("path", text(path.clone())),
            ("size", Object::Uint(size)),
            ("sha256", text(sha256.clone())),
            ("fqcn", text(source.owner.to_string())),
            ("ref_id", text(source.ref_id.to_string())),
        ]
        .into_iter()
        .collect();
        let before = *reach;
        (reach.total, reach.files) = (Some(before.bytes + size), before.files + 1);
        let asked = ask(cell, target, TAKE, &path, told, patience);
        let reply = watched(asked, transaction, |bytes| {
            (reach.bytes, reach.moved) = (before.bytes + bytes.min(size), before.moved + bytes);
            // A terminal that is gone does not end a copy.
            let _ = shown.at(*reach);
        })
        .await?;
        agrees(&path, &reply, size, &sha256)?;
        (reach.bytes, reach.moved) = (before.bytes + size, before.moved + size);
        Ok(sha256)
    }
}

/// One file on its way here.
struct Fetching<'a> {
    cell: &'a Cell,
    target: &'a Fqcn,
    path: &'a str,
    dir: &'a Path,
    overwrite: bool,
    patience: Duration,
}

impl Fetching<'_> {
    /// Gives the digest.
    async fn run(&self, reach: &mut Reach, shown: &mut Shown) -> Result<String, DownloadError> {
        let name = self.path.rsplit('/').next().filter(|name| !["", ".", ".."].contains(name));
        let to = self
            .dir
            .join(name.ok_or_else(|| DownloadError::NoFile(self.target.clone(), self.path.to_owned()))?);
        if !self.overwrite && to.symlink_metadata().is_ok() {
            return Err(PullError::Exists(to).into());
        }
        // Only what is compared with the offer gets the name, and the place of what was there.
        let unchecked = to.with_file_name(format!("{}{UNCHECKED}", name.unwrap_or_default()));
        let (owner, ref_id, offered) = self.ask().await?;
        let there = Arc::new(AtomicU64::new(0));
        (reach.total, reach.files) = (offered.get("size").and_then(Object::as_u64), 1);
        let pull = Downloads::attach(self.cell).pull_file(&owner, ref_id).overwrite().on_progress({
            let there = Arc::clone(&there);
            move |bytes| there.store(bytes, Relaxed)
        });
        let mut pulling = std::pin::pin!(pull.into_path(unchecked.clone()));
        let size = loop {
            tokio::select! {
                size = &mut pulling => break size?,
                () = tokio::time::sleep(LOOK) => {
                    (reach.bytes, reach.moved) = (there.load(Relaxed), there.load(Relaxed));
                    let _ = shown.at(*reach);
                }
            }
        };
        (reach.bytes, reach.moved, reach.total) = (size, size, Some(size));
        let (_, sha256) = digest(&unchecked).await?;
        let (agreed, overwrite) = (agrees(self.path, &offered, size, &sha256), self.overwrite);
        let placed = tokio::task::spawn_blocking(move || {
            let placed = agreed.and_then(|()| place(&unchecked, &to, overwrite));
            // Nothing is left of what is not what was offered.
            let _ = std::fs::remove_file(&unchecked);
            placed
        });
        placed
            .await
            .map_err(|error| DownloadError::Place(self.dir.to_owned(), io::Error::other(error)))??;
        Ok(sha256)
    }

    /// Who has it, by which reference, and what is said of it.
    async fn ask(&self) -> Result<(Fqcn, String, Object), DownloadError> {
        if is_reference(self.path) {
            return Ok((self.target.clone(), self.path.to_owned(), Object::Nil));
        }
        let order: Object = [("path", text(self.path.to_owned()))].into_iter().collect();
        let reply = ask(self.cell, self.target, GIVE, self.path, order, self.patience).await?;
        let said = |key| reply.get(key).and_then(Object::as_str).map(str::to_owned);
        let nonsense = |missing| DownloadError::Nonsense(self.target.clone(), missing);
        let owner = said("fqcn").and_then(|name| name.parse().ok()).ok_or_else(|| nonsense("no 'fqcn'"))?;
        let ref_id = said("ref_id").ok_or_else(|| nonsense("no 'ref_id'"))?;
        Ok((owner, ref_id, reply))
    }
}

/// Gives a file its name, for good.
fn place(unchecked: &Path, to: &Path, overwrite: bool) -> Result<(), DownloadError> {
    let placed = match overwrite {
        true => std::fs::rename(unchecked, to),
        // A second name is only given if it is free.
        false => match std::fs::hard_link(unchecked, to) {
            Err(_) if to.symlink_metadata().is_err() => std::fs::rename(unchecked, to),
            linked => linked.and_then(|()| std::fs::remove_file(unchecked)),
        },
    };
    let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    placed.and_then(|()| std::fs::File::open(dir)?.sync_all()).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => PullError::Exists(to.to_owned()).into(),
        _ => DownloadError::Place(to.to_owned(), error),
    })
}

/// The end of the name of a file that was not yet compared with what was offered.
const UNCHECKED: &str = ".cellnet-partial";

/// How often a pull is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// `R` and a UUID, as the download service makes them.
fn is_reference(path: &str) -> bool {
    path.strip_prefix('R').is_some_and(|id| uuid::Uuid::try_parse(id).is_ok())
}

/// What the reference says of a stream that nobody there wants (`fuel/f3/streaming/byte_receiver.py`).
const NO_CALL_BACK: &str = "No callback is registered";

fn text(text: String) -> Object {
    Object::Str(text.into())
}

async fn ask(
    cell: &Cell,
    target: &Fqcn,
    topic: &'static str,
    path: &str,
    order: Object,
    patience: Duration,
) -> Result<Object, DownloadError> {
    let order = Message::new(Payload::Fobs(fobs::encode(&Document::new(order))));
    let reply = match cell.request(target, CHANNEL, topic, order).timeout(patience).await {
        Err(RequestError::Stream(error)) if chain(&error).contains(NO_CALL_BACK) => {
            return Err(DownloadError::Deaf(target.clone()));
        }
        asked => asked?,
    };
    if !reply.is_ok() {
        let code = reply.code().unwrap_or(ReturnCode::PROCESS_EXCEPTION);
        return Err(match reply.error() {
            // A call-back that fails says no text.
            Some(_) if code == ReturnCode::PROCESS_EXCEPTION => DownloadError::Deaf(target.clone()),
            text => {
                let text = text.unwrap_or("it gave no reason").to_owned();
                DownloadError::Refused(target.clone(), path.to_owned(), code, text)
            }
        });
    }
    match &reply.payload {
        Payload::Fobs(payload) => fobs::decode(payload, Limits::PAYLOAD)
            .and_then(Document::into_object)
            .map_err(|_| DownloadError::Nonsense(target.clone(), "the payload cannot be decoded")),
        _ => Ok(Object::Nil),
    }
}

/// Waits for the answer while the other side pulls.
async fn watched(
    asked: impl Future<Output = Result<Object, DownloadError>>,
    mut transaction: Transaction,
    mut told: impl FnMut(u64),
) -> Result<Object, DownloadError> {
    let mut asked = std::pin::pin!(asked);
    loop {
        tokio::select! {
            reply = &mut asked => return reply,
            Some(status) = transaction.changed() => {
                told(status.receivers.iter().map(|receiver| receiver.bytes).sum());
            }
        }
    }
}

/// What the other side says of a file is what it is.
fn agrees(path: &str, said: &Object, size: u64, sha256: &str) -> Result<(), DownloadError> {
    let differs = |text: String| Err(DownloadError::Differs(path.to_owned(), text));
    match said.get("size").and_then(Object::as_u64) {
        Some(theirs) if theirs != size => return differs(format!("{theirs} bytes, not {size}")),
        _ => {}
    }
    match said.get("sha256").and_then(Object::as_str) {
        Some(theirs) if theirs != sha256 => differs(format!("sha256 {theirs}, not {sha256}")),
        _ => Ok(()),
    }
}

/// Size and SHA-256, which every Python has.
async fn digest(path: &Path) -> Result<(u64, String), DownloadError> {
    let file = path.to_owned();
    let digested = tokio::task::spawn_blocking(move || {
        let (mut file, mut digest, mut size) = (std::fs::File::open(file)?, Sha256::new(), 0);
        let mut piece = vec![0; 1 << 20];
        loop {
            let length = file.read(&mut piece)?;
            if length == 0 {
                return Ok((size, digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()));
            }
            size += length as u64;
            digest.update(&piece[..length]);
        }
    });
    let digested = digested.await.unwrap_or_else(|_| Err(io::Error::other("the runtime ends")));
    digested.map_err(|error| DownloadError::Read(path.to_owned(), error))
}

impl DownloadError {
    /// The stable word for what went wrong.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoFile(..) => "unsupported",
            Self::Deaf(_) => "no_inbox",
            Self::Refused(..) => "refused",
            Self::Nonsense(..) => "protocol",
            Self::Differs(..) => "corrupt",
            Self::Read(..) | Self::Place(..) | Self::Offer(_) => "io",
            Self::Request(_) => "unreachable",
            Self::Pull(error) => match error {
                PullError::Exists(_) => "exists",
                PullError::Stalled { .. } | PullError::NoAnswer { .. } => "stalled",
                PullError::OwnerGone { .. } => "unreachable",
                PullError::Unknown { .. } => "not_found",
                PullError::Refused { .. } => "stranger",
                PullError::Corrupt { .. } => "corrupt",
                _ => "io",
            },
        }
    }

    /// The return code that says nearly the same.
    pub(crate) fn code(&self) -> ReturnCode {
        match self {
            Self::Refused(_, _, code, _) => code.clone(),
            Self::Request(error) => error.code(),
            _ => transfer::Reason::parse(self.reason()).code(),
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Refused(_, _, code, _) => Status::of_reply(Some(code)).unwrap_or(Status::Failed),
            Self::Request(_) => Status::of_reply(Some(&self.code())).unwrap_or(Status::Failed),
            Self::Pull(PullError::OwnerGone { .. }) => Status::PeerGone,
            _ => {
                let error =
                    transfer::TransferError::here(transfer::Reason::parse(self.reason()), chain(self));
                Status::of_transfer(&error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_gets_a_name_that_is_free_or_to_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (unchecked, to) = (dir.path().join("x.cellnet-partial"), dir.path().join("x"));
        fs::write(&unchecked, "new").unwrap();
        place(&unchecked, &to, false).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"new");
        fs::write(&unchecked, "newer").unwrap();
        assert_eq!(place(&unchecked, &to, false).unwrap_err().reason(), "exists");
        assert_eq!(fs::read(&to).unwrap(), b"new");
        place(&unchecked, &to, true).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"newer");
    }
}
