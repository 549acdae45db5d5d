//! What a reference stands for, piece by piece.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;
use bytestring::ByteString;
use cellnet_core::fobs::{Array, ArrayKind, Object, PackError};

use super::wire;

/// What is behind one reference.
#[derive(Debug)]
pub(super) enum Content {
    /// Arrays, each an item with a name.
    Items { kind: ArrayKind, items: Vec<(ByteString, Array)> },
    /// A file as it was when it was offered.
    File { path: PathBuf, size: u64, modified: Option<SystemTime> },
}

/// The data of one answer, and what a puller has after it.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) state: Object,
    pub(super) data: Object,
    pub(super) bytes: u64,
}

/// Why there is no piece.
#[derive(Debug, thiserror::Error)]
pub(super) enum PieceError {
    #[error("cannot pack an array")]
    Pack(#[from] PackError),
    #[error("cannot read '{path}'")]
    File { path: PathBuf, source: io::Error },
    #[error("'{0}' has changed since it was offered")]
    Changed(PathBuf),
}

impl Content {
    /// A file that is there now. Blocks.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        // Looked at first, because whoever opens a pipe may wait for ever.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let found = File::open(path)?.metadata()?;
        Ok(Self::File { path: path.to_owned(), size: found.len(), modified: found.modified().ok() })
    }

    /// Bytes that are held in memory for it.
    pub(super) fn held(&self) -> u64 {
        match self {
            Self::Items { items, .. } => items.iter().map(|(_, array)| array.data().len() as u64).sum(),
            Self::File { .. } => 0,
        }
    }

    /// Where it ends, in items or bytes.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Items { items, .. } => items.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// About how many bytes travel for all of it.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Items { items, .. } => self.held() + items.len() as u64 * ITEM_OVERHEAD,
            Self::File { size, .. } => *size,
        }
    }

    /// Where a puller with this state goes on; `None` if the state makes no sense.
    pub(super) fn position(&self, state: Option<&Object>) -> Option<u64> {
        let Some(state) = state else { return Some(0) };
        match self {
            Self::Items { .. } => wire::next_item(state),
            Self::File { .. } => wire::received_bytes(state),
        }
    }

    /// About how much memory the piece at a position takes.
    pub(super) fn weight(&self, at: u64, chunk_size: usize, file_chunk_size: usize) -> usize {
        match self {
            Self::Items { items, .. } => {
                let first = usize::try_from(at).ok().and_then(|at| items.get(at));
                // The packed item and the payload that it is copied into.
                2 * first.map_or(0, |(_, array)| array.data().len()).max(chunk_size)
            }
            Self::File { .. } => 2 * file_chunk_size,
        }
    }

    /// The piece at a position before the end. Blocks while a file is read or a large array packed.
    pub(super) fn piece(
        &self,
        at: u64,
        chunk_size: usize,
        file_chunk_size: usize,
    ) -> Result<Piece, PieceError> {
        match self {
            Self::Items { kind, items } => pack(*kind, items, at as usize, chunk_size),
            Self::File { path, size, modified } => {
                let length = (size - at).min(file_chunk_size as u64);
                let failed = |source| PieceError::File { path: path.clone(), source };
                let mut file = File::open(path).map_err(failed)?;
                let found = file.metadata().map_err(failed)?;
                if found.len() != *size || found.modified().ok() != *modified {
                    return Err(PieceError::Changed(path.clone()));
                }
                file.seek(SeekFrom::Start(at)).map_err(failed)?;
                let mut data = Vec::with_capacity(length as usize);
                file.take(length).read_to_end(&mut data).map_err(failed)?;
                if data.len() as u64 != length {
                    return Err(PieceError::Changed(path.clone()));
                }
                let state = wire::file_state(at + length);
                Ok(Piece { state, data: Object::Bin(data.into()), bytes: length })
            }
        }
    }
}

/// As many items as stay below `chunk_size` together, at least one.
fn pack(
    kind: ArrayKind,
    items: &[(ByteString, Array)],
    start: usize,
    chunk_size: usize,
) -> Result<Piece, PieceError> {
    let (mut packed, mut bytes) = (Vec::<Object>::new(), 0);
    for (name, array) in &items[start..] {
        if !packed.is_empty() && bytes + array.data().len() >= chunk_size {
            break;
        }
        let item: Bytes = kind.pack(name, array)?;
        if !packed.is_empty() && bytes + item.len() >= chunk_size {
            break;
        }
        bytes += item.len();
        packed.push(item.into());
    }
    let state = wire::items_state(start, packed.len());
    Ok(Piece { state, data: Object::List(packed), bytes: bytes as u64 })
}

/// What an item has around its data, about.
const ITEM_OVERHEAD: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::testdata::golden;

    fn arrays(count: usize, bytes: usize) -> Content {
        let items =
            (0..count).map(|at| (format!("T{at}").into(), Array::from(vec![at as u8; bytes]))).collect();
        Content::Items { kind: ArrayKind::Numpy, items }
    }

    /// The states and numbers of items of all answers.
    fn answers(content: &Content, chunk_size: usize) -> Vec<(Object, Vec<usize>)> {
        let (mut at, mut all) = (0, Vec::new());
        while at < content.end() {
            let piece = content.piece(at, chunk_size, 1).unwrap();
            at = content.position(Some(&piece.state)).unwrap();
            let sizes: Vec<_> = wire::items(piece.data).unwrap().iter().map(Bytes::len).collect();
            assert_eq!(piece.bytes, sizes.iter().sum::<usize>() as u64);
            all.push((piece.state, sizes));
        }
        all
    }

    #[test]
    fn items_share_answers_as_in_the_reference() {
        let known = &golden()["chunking"];
        let number = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
        let content = arrays(number(&known["arrays"]), number(&known["bytes"]));
        let found = answers(&content, 2 << 20);
        for ((state, sizes), known) in found.iter().zip(known["answers"].as_array().unwrap()) {
            assert_eq!(state, &wire::items_state(number(&known["start"]), number(&known["count"])));
            assert_eq!(sizes.len(), number(&known["count"]));
        }
        let item = number(&known["item"]);
        assert!(found.iter().flat_map(|(_, sizes)| sizes).all(|size| *size == item), "{found:?}");
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn items_stay_below_the_size_and_a_large_one_travels_alone() {
        let item = answers(&arrays(1, 1000), 1)[0].1[0];
        let lengths = |chunk_size| -> Vec<usize> {
            answers(&arrays(4, 1000), chunk_size).iter().map(|(_, sizes)| sizes.len()).collect()
        };
        assert_eq!(lengths(2 * item), [1, 1, 1, 1]);
        assert_eq!(lengths(2 * item + 1), [2, 2]);
        assert_eq!(lengths(1), [1, 1, 1, 1]);
    }

    #[test]
    fn a_file_that_has_changed_is_not_given() {
        let path = std::env::temp_dir().join(format!("cellnet-content-{}", std::process::id()));
        std::fs::write(&path, b"0123456789").unwrap();
        let content = Content::file(&path).unwrap();
        let piece = content.piece(4, 1, 4).unwrap();
        assert_eq!(piece, Piece { state: wire::file_state(8), data: Object::Bin("4567".into()), bytes: 4 });
        assert_eq!(content.piece(8, 1, 4).unwrap().data, Object::Bin("89".into()));
        std::fs::write(&path, b"01234").unwrap();
        assert!(matches!(content.piece(0, 1, 4), Err(PieceError::Changed(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(content.piece(0, 1, 4), Err(PieceError::File { .. })));
        assert!(Content::file(&std::env::temp_dir()).is_err());
    }
}
