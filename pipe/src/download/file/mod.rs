//! Files that are pulled.

mod part;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path};

use bytes::Bytes;
use cellnet_core::{cell::Cell, fobs::Source};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use self::part::Part;
use super::{PullConfig, PullError, fetch::file_piece, pull::Pull, wire};

/// A file that is about to be pulled, into a writer or under a path.
///
/// One answer is in memory at a time; its size is the owner's choice, 5 MiB if that is not changed. The protocol says
/// nothing of the content: whoever has its digest should check it.
#[must_use = "nothing is pulled before a destination is given"]
pub struct FilePull {
    cell: Cell,
    source: Source,
    config: PullConfig,
    from: u64,
    resume: bool,
    overwrite: bool,
    on_progress: Option<Box<dyn FnMut(u64) + Send>>,
}

impl FilePull {
    pub(super) fn new(cell: Cell, source: Source, config: PullConfig) -> Self {
        Self { cell, source, config, from: 0, resume: false, overwrite: false, on_progress: None }
    }

    /// With [`into_writer`](Self::into_writer): skips bytes that are there already, of the same reference.
    pub fn from(mut self, offset: u64) -> Self {
        self.from = offset;
        self
    }

    /// Gives up beyond so many bytes, skipped ones included; without,
    /// [`PullConfig::max_file`](super::PullConfig::max_file).
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.config.max_file = bytes;
        self
    }

    /// Sets the deadlines of this pull.
    pub fn configure(mut self, change: impl FnOnce(&mut PullConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Calls `told` with the bytes that are there whenever some more are.
    pub fn on_progress(mut self, told: impl FnMut(u64) + Send + 'static) -> Self {
        self.on_progress = Some(Box::new(told));
        self
    }

    /// With [`into_path`](Self::into_path): goes on with what an earlier pull of the same reference has left, and leaves what
    /// came if this one fails. Without, partial files are removed. If the owner has less than what is there, all of it is
    /// pulled anew.
    pub fn resume(mut self) -> Self {
        self.resume = true;
        self
    }

    /// With [`into_path`](Self::into_path): replaces a file that is there.
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }

    /// Pulls into a writer, and gives the size of the file. After an error or a drop the writer has a part of it.
    pub async fn into_writer(
        mut self,
        sink: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> Result<u64, PullError> {
        let mut tail = self.begin(self.from);
        while let Some(data) = tail.next(&mut self).await? {
            sink.write_all(&data).await.map_err(PullError::Sink)?;
            tail.written(&mut self, data.len());
        }
        sink.flush().await.map_err(PullError::Sink)?;
        Ok(tail.there)
    }

    /// Pulls under a path, and gives the size of the file. Until everything is there and on the disk it is
    /// `PATH.part`; two pulls to one path exclude each other.
    pub async fn into_path(mut self, path: impl AsRef<Path>) -> Result<u64, PullError> {
        let (path, resume, overwrite) = (path.as_ref().to_owned(), self.resume, self.overwrite);
        let mut part = blocking(move || Part::open(path, resume, overwrite)).await?;
        let there = part.length;
        // The last byte comes once more: an owner that has it has not less than what is there.
        let mut tail = self.begin(there.saturating_sub(1));
        let mut next = tail.next(&mut self).await;
        if there > 0 && matches!(next, Ok(None) | Err(PullError::OwnerFailed { .. })) {
            let ended = next.is_ok();
            if !ended {
                // Whatever becomes of this, it is in nobody's way again.
                part = blocking(move || part.cut(0)).await?;
            }
            tail = self.begin(0);
            next = tail.next(&mut self).await;
            if ended && matches!(next, Ok(None)) {
                // All of it was pulled before, and that is all that its owner still knows.
                tail.there = there;
            }
        }
        let mut next = next?;
        let at = tail.there;
        part = blocking(move || part.cut(at)).await?;
        while let Some(data) = next {
            let length = data.len();
            part = blocking(move || part.append(&data)).await?;
            tail.written(&mut self, length);
            next = tail.next(&mut self).await?;
        }
        blocking(move || part.finish()).await?;
        Ok(tail.there)
    }

    fn begin(&self, from: u64) -> Tail {
        let state = (from > 0).then(|| wire::file_state(from));
        let pull = Pull::new(self.source.clone(), self.config.clone(), state, Instant::now());
        Tail { pull, there: from }
    }
}

impl fmt::Debug for FilePull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilePull")
            .field("source", &self.source)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// Where a pull is.
struct Tail {
    pull: Pull,
    there: u64,
}

impl Tail {
    async fn next(&mut self, file: &mut FilePull) -> Result<Option<Bytes>, PullError> {
        let most = file.config.max_file;
        if self.there > most {
            return Err(PullError::TooLarge(most));
        }
        let data = file_piece(&file.cell, &file.source, &mut self.pull).await?;
        match &data {
            Some(data) if data.len() as u64 > most - self.there => Err(PullError::TooLarge(most)),
            _ => Ok(data),
        }
    }

    fn written(&mut self, file: &mut FilePull, bytes: usize) {
        self.there += bytes as u64;
        self.pull.go_on(wire::file_state(self.there));
        if let Some(told) = &mut file.on_progress {
            told(self.there);
        }
    }
}

/// Runs what waits for a disk off the threads of the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PullError> + Send + 'static,
) -> Result<T, PullError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| PullError::RuntimeEnded)?
}
