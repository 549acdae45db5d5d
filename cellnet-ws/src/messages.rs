//! What the next bytes of a connection are: the rules of RFC 6455 and ours, without a socket.
//!
//! Every binary message is exactly one frame of the SFM layer: its size is the length that the frame's prefix claims.
//! The reference goes by the size of the message and does not compare (`fuel/f3/drivers/aio_conn.py`); all its own
//! messages agree, and whoever sends another one is not to be trusted with either number.

use std::io::Cursor;

use cellnet_core::wire::{MAX_FRAME, PREFIX_LEN};
use tokio_tungstenite::tungstenite::{
    Error,
    error::ProtocolError,
    protocol::frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

use crate::{mask::Mask, send::Role, violation::Violation};

/// Where in the stream of WebSocket frames a reader is.
#[derive(Debug)]
pub(crate) struct Messages {
    role: Role,
    part: Part,
    /// Bytes left of the frame's payload.
    left: u64,
    mask: Option<Mask>,
    last: bool,
    message: Option<Message>,
    control: Vec<u8>,
    /// Frames since the last message that carried nothing.
    noise: u32,
    text: u64,
}

/// What the bytes that follow are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Data,
    Text,
    Control(Control),
}

/// A message of which not everything is here.
#[derive(Debug, Clone, Copy)]
struct Message {
    text: bool,
    fragments: u64,
    seen: u64,
    /// The first bytes of the frame: its length.
    length: [u8; 4],
}

/// What was found in some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// More bytes are needed to go on.
    Nothing,
    /// This many bytes were used up and are of no interest to anybody.
    Passed(usize),
    /// So many bytes belong to a frame; they are unmasked now.
    Data(usize),
    /// The end of a control frame, after so many bytes.
    Control(usize, Signal),
}

/// What a peer asks of the connection itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Ping(Vec<u8>),
    Pong,
    /// With its code, if it has one, and its reason.
    Close(Option<u16>, String),
}

impl Messages {
    /// The beginning of a connection on which this side is `role`.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            part: Part::Head,
            left: 0,
            mask: None,
            last: true,
            message: None,
            control: Vec::new(),
            noise: 0,
            text: 0,
        }
    }

    /// Whether the stream may end here without breaking a message.
    pub(crate) fn is_between(&self) -> bool {
        self.part == Part::Head && self.message.is_none()
    }

    /// Whether a text is being read past.
    pub(crate) fn is_in_text(&self) -> bool {
        self.part == Part::Text
    }

    /// Bytes that follow and belong to a frame of the SFM layer.
    pub(crate) fn data_left(&self) -> u64 {
        if self.part == Part::Data { self.left } else { 0 }
    }

    /// Goes on with what was read: at most up to the end of one part, and `room` bytes of data.
    pub(crate) fn take(&mut self, bytes: &mut [u8], room: usize) -> Result<Found, Violation> {
        if self.part == Part::Head {
            return self.take_head(bytes);
        }
        let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        match self.part {
            Part::Head => unreachable!("it was taken above"),
            Part::Data => {
                let here = here.min(room);
                if here == 0 {
                    return Ok(Found::Nothing);
                }
                self.take_data(&mut bytes[..here])?;
                Ok(Found::Data(here))
            }
            Part::Text => {
                if here == 0 {
                    return Ok(Found::Nothing);
                }
                self.left -= here as u64;
                self.end_frame()?;
                Ok(Found::Passed(here))
            }
            Part::Control(kind) => {
                if here == 0 && self.left > 0 {
                    return Ok(Found::Nothing);
                }
                let bytes = &mut bytes[..here];
                self.unmask(bytes);
                self.control.extend_from_slice(bytes);
                self.left -= here as u64;
                if self.left > 0 {
                    return Ok(Found::Passed(here));
                }
                self.part = Part::Head;
                Ok(Found::Control(here, signal(kind, &std::mem::take(&mut self.control))?))
            }
        }
    }

    /// Takes bytes of data that were read elsewhere, at most [`data_left`](Self::data_left), and unmasks them.
    pub(crate) fn take_data(&mut self, bytes: &mut [u8]) -> Result<(), Violation> {
        self.unmask(bytes);
        self.left -= bytes.len() as u64;
        let message = self.message.as_mut().expect("data belongs to a message");
        let known = message.seen.min(4) as usize;
        for (at, byte) in message.length[known..].iter_mut().zip(&*bytes) {
            *at = *byte;
        }
        message.seen += bytes.len() as u64;
        if known < 4 {
            self.judge()?;
        }
        self.end_frame()
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<Found, Violation> {
        let mut cursor = Cursor::new(bytes);
        let (head, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Found::Nothing),
            Err(Error::Protocol(ProtocolError::InvalidOpcode(code))) => return Err(Violation::Opcode(code)),
            Err(_) => return Err(Violation::Opcode(bytes[0] & 0x0f)),
        };
        let used = cursor.position() as usize;
        self.start_frame(&head, length)?;
        Ok(Found::Passed(used))
    }

    fn start_frame(&mut self, head: &FrameHeader, length: u64) -> Result<(), Violation> {
        if head.rsv1 || head.rsv2 || head.rsv3 {
            return Err(Violation::ReservedBit);
        }
        match (self.role, head.mask) {
            (Role::Server, None) => return Err(Violation::Unmasked),
            (Role::Client, Some(_)) => return Err(Violation::Masked),
            _ => self.mask = head.mask.map(Mask::new),
        }
        self.left = length;
        match head.opcode {
            OpCode::Control(_) if length > 125 => return Err(Violation::LongControl(length)),
            OpCode::Control(_) if !head.is_final => return Err(Violation::FragmentedControl),
            OpCode::Control(kind) => {
                self.part = Part::Control(kind);
                return self.note_noise();
            }
            OpCode::Data(Data::Continue) if self.message.is_none() => return Err(Violation::Continuation),
            OpCode::Data(Data::Continue) => {}
            OpCode::Data(_) if self.message.is_some() => return Err(Violation::Interleaved),
            OpCode::Data(kind) => {
                let text = kind == Data::Text;
                self.message = Some(Message { text, fragments: 0, seen: 0, length: [0; 4] });
            }
        }
        self.last = head.is_final;
        let message = self.message.as_mut().expect("it began above or before");
        message.fragments += 1;
        if message.text {
            self.part = Part::Text;
            self.text = self.text.saturating_add(length);
            if self.text > MAX_TEXT {
                return Err(Violation::Text(MAX_TEXT));
            }
            self.note_noise()?;
        } else {
            self.part = Part::Data;
            let most = FRAGMENTS + message.seen / FRAGMENT;
            if message.fragments > most {
                return Err(Violation::Fragments(most));
            }
            self.judge()?;
        }
        self.end_frame()
    }

    /// Compares what a message claims with what its frame claims, as soon as both are known.
    fn judge(&self) -> Result<(), Violation> {
        let Some(message) = &self.message else { return Ok(()) };
        let announced = message.seen.saturating_add(self.left);
        if announced > MAX_FRAME as u64 {
            return Err(Violation::TooLong(announced));
        }
        if self.last && announced < PREFIX_LEN as u64 {
            return Err(Violation::TooShort(announced));
        }
        let length = u64::from(u32::from_be_bytes(message.length));
        // What cannot be a length is found by whoever reads the frame.
        if message.seen < 4 || !(PREFIX_LEN as u64..=MAX_FRAME as u64).contains(&length) {
            return Ok(());
        }
        if announced > length || (self.last && announced < length) {
            return Err(Violation::Size { message: announced, frame: length });
        }
        Ok(())
    }

    /// Goes back to heads if nothing is left of a frame.
    fn end_frame(&mut self) -> Result<(), Violation> {
        if self.left > 0 {
            return Ok(());
        }
        self.part = Part::Head;
        if self.last {
            let ended = self.message.take();
            if ended.is_some_and(|message| !message.text) {
                self.noise = 0;
            }
        }
        Ok(())
    }

    fn note_noise(&mut self) -> Result<(), Violation> {
        self.noise += 1;
        if self.noise > MAX_NOISE { Err(Violation::Noise(MAX_NOISE)) } else { Ok(()) }
    }

    fn unmask(&mut self, bytes: &mut [u8]) {
        if let Some(mask) = &mut self.mask {
            mask.apply(bytes);
        }
    }
}

/// What a control frame says.
fn signal(kind: Control, payload: &[u8]) -> Result<Signal, Violation> {
    Ok(match (kind, payload) {
        (Control::Ping, payload) => Signal::Ping(payload.to_vec()),
        (Control::Close, []) => Signal::Close(None, String::new()),
        (Control::Close, [_]) => return Err(Violation::Close),
        (Control::Close, [high, low, reason @ ..]) => Signal::Close(
            Some(u16::from_be_bytes([*high, *low])),
            String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).collect(),
        ),
        _ => Signal::Pong,
    })
}

/// Fragments that a message of any size may have, and the bytes that earn it one more: a megabyte may come in 17,408
/// pieces, but not in a million.
const FRAGMENTS: u64 = 1024;
const FRAGMENT: u64 = 64;

/// Control frames and texts between two messages. Keep-alives of a quiet hour are below it.
const MAX_NOISE: u32 = 1024;

/// Bytes of text that are read past in the life of a connection.
const MAX_TEXT: u64 = 1024 * 1024;
