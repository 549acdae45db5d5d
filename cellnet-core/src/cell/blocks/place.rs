//! What a request for a block asks for.

use std::fmt;

/// Which block of which transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BlockName {
    pub(crate) token: Token,
    pub(crate) place: Place,
}

/// What only those know who were offered a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token([u8; TOKEN_LEN]);

const TOKEN_LEN: usize = 16;

/// Where a block is in its transfer. Receivers ask in this order, more or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: u32,
    pub(crate) block: u64,
}

impl BlockName {
    /// Reads MessagePack `[token: bin 16, file: u32, block: u64]`, and nothing else.
    pub(crate) fn parse(mut payload: &[u8]) -> Option<Self> {
        let input = &mut payload;
        if rmp::decode::read_array_len(input).ok()? != 3 {
            return None;
        }
        if rmp::decode::read_bin_len(input).ok()? as usize != TOKEN_LEN {
            return None;
        }
        let (token, rest) = input.split_first_chunk::<TOKEN_LEN>()?;
        *input = rest;
        let file = rmp::decode::read_int(input).ok()?;
        let block = rmp::decode::read_int(input).ok()?;
        input.is_empty().then_some(Self { token: Token(*token), place: Place { file, block } })
    }
}

impl Place {
    /// How many blocks `other` is ahead, at least: nobody here knows how long files are.
    pub(crate) fn ahead(self, other: Self) -> u64 {
        match other.file.checked_sub(self.file) {
            Some(0) => other.block.saturating_sub(self.block),
            Some(files) => other.block.saturating_add(files.into()),
            None => 0,
        }
    }
}

/// Who reads the log must not learn it.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
impl Token {
    pub(crate) fn of(byte: u8) -> Self {
        Self([byte; TOKEN_LEN])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(token: &[u8], numbers: &[u8]) -> Vec<u8> {
        [&[0x93, 0xc4, token.len() as u8], token, numbers].concat()
    }

    #[test]
    fn a_request_is_read_whatever_the_width_of_its_numbers_and_nothing_else_is() {
        let name = |file, block| Some(BlockName { token: Token([7; 16]), place: Place { file, block } });
        let token = [7; 16];
        assert_eq!(BlockName::parse(&payload(&token, &[1, 2])), name(1, 2));
        assert_eq!(BlockName::parse(&payload(&token, &[0xcd, 0, 1, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0])), name(1, 1 << 32));
        for (odd, why) in [
            (payload(&token, &[1]), "too short"),
            (payload(&token, &[1, 2, 3]), "too long"),
            (payload(&token[1..], &[1, 2]), "a short token"),
            (payload(&token, &[0xff, 2]), "a negative file"),
            (payload(&token, &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0, 2]), "a file beyond u32"),
            ([&[0x92, 0xc4, 16], &token[..], &[1]].concat(), "two items"),
            (vec![], "nothing"),
            (vec![0x93, 0xc6, 0xff, 0xff, 0xff, 0xff], "a token that is claimed to be 4 GiB"),
        ] {
            assert_eq!(BlockName::parse(&odd), None, "{why}");
        }
    }

    #[test]
    fn a_place_in_a_later_file_is_at_least_as_many_files_ahead() {
        let place = |file, block| Place { file, block };
        for (from, to, ahead) in [
            (place(0, 5), place(0, 9), 4),
            (place(0, 5), place(0, 5), 0),
            (place(0, 5), place(0, 2), 0),
            (place(0, 5), place(2, 3), 5),
            (place(1, 0), place(0, 9), 0),
            (place(0, 0), place(u32::MAX, u64::MAX), u64::MAX),
        ] {
            assert_eq!(from.ahead(to), ahead, "{from:?} {to:?}");
        }
    }
}
