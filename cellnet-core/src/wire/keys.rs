//! Names of headers, channels and topics that have a meaning on the wire.
//!
//! Source: `fuel/f3/cellnet/defs.py`, `fuel/f3/streaming/stream_const.py`.

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
    };
}

/// Headers of every cell message.
pub mod cn {
    names! {
        /// `req`, `reply` or `return`.
        MSG_TYPE = "cn__msg_type";
        /// Matches replies to requests; a list in RETURN messages and deferred replies.
        REQ_ID = "cn__req_id";
        /// Whether the sender waits.
        REPLY_EXPECTED = "cn__reply_expected";
        /// Half of the handler's name.
        CHANNEL = "cn__channel";
        /// The other half of the handler's name.
        TOPIC = "cn__topic";
        /// Who made the message.
        ORIGIN = "cn__origin";
        /// Whom it is for.
        DESTINATION = "cn__destination";
        /// Who sent it on this hop.
        FROM = "cn__from";
        /// Who gets it on this hop.
        TO = "cn__to";
        /// Who handled it so far, with Unix times.
        ROUTE = "cn__route";
        /// Unix time at which this hop sent it.
        SEND_TIME = "cn__send_time";
        /// How the payload is encoded: `none`, `bytes` or `fobs`.
        PAYLOAD_ENCODING = "cn__payload_encoding";
        /// Bytes of the payload.
        PAYLOAD_LEN = "cn__payload_len";
        /// Outcome of a request.
        RETURN_CODE = "cn__return_code";
        /// Outcome in words.
        ERROR = "cn__error";
        /// End-to-end encryption wanted.
        SECURE = "cn__secure";
        /// The payload is ciphertext.
        ENCRYPTED = "cn__encrypted";
        /// Failure is no news.
        OPTIONAL = "cn__optional";
        /// Headers of the request that a RETURN is about.
        ORIGINAL_HEADERS = "cn__original_headers";
        /// Why a RETURN was made.
        RETURN_REASON = "cn__return_reason";
        /// The task that a message belongs to.
        MSG_ROOT_ID = "cn__msg_root_id";
        /// Seconds that downloads of the message may take.
        MSG_ROOT_TTL = "cn__msg_root_ttl";
        /// Leave download references alone.
        PASS_THROUGH = "cn__pass_through";
        /// The channel of cells among themselves.
        CELLNET_CHANNEL = "cellnet.channel";
        /// A neighbour takes its leave.
        BYE = "bye";
        /// Several messages in one.
        BULK = "bulk";
        /// End-to-end features of a Rust cell, echoed by one that replies. Not known to the reference.
        CELLNET = "cellnet";
    }
}

/// Headers of stream messages.
pub mod sm {
    names! {
        /// Id of the stream, unique per origin.
        ID = "sm__id";
        /// 1 chunk, 2 last chunk, 3 ACK, 6 error.
        DATA_TYPE = "sm__dt";
        /// Number of the chunk, from 0.
        SEQUENCE = "sm__sq";
        /// Bytes before this chunk, or bytes consumed.
        OFFSET = "sm__os";
        /// Bytes of the whole stream, 0 if unknown.
        SIZE = "sm__sz";
        /// Channel of the application.
        CHANNEL = "sm__ch";
        /// Topic of the application.
        TOPIC = "sm__tp";
        /// Failure is no news.
        OPTIONAL = "sm__op";
        /// What went wrong.
        ERROR = "sm__em";
        /// Matches the reply stream to the request stream; absent if no reply is wanted.
        REQ_ID = "sm__ri";
        /// How the whole blob is encoded: `none`, `bytes` or `fobs`.
        PAYLOAD_ENCODING = "sm__pe";
        /// The channel that carries all streams.
        STREAM_CHANNEL = "sm__STREAM";
        /// The topic from sender to receiver.
        DATA_TOPIC = "sm__DATA";
        /// The topic from receiver to sender.
        ACK_TOPIC = "sm__ACK";
        /// The inner channel of replies.
        RETURN_ONLY = "return_only";
    }
}

/// Headers of the messages of a pipe. Source: `fuel/utils/pipe/cell_pipe.py`.
pub mod pipe {
    names! {
        /// `REQ` or `REP`.
        MSG_TYPE = "cell_pipe.msg_type";
        /// The message's own id.
        MSG_ID = "cell_pipe.msg_id";
        /// The id of the message that it answers.
        REQ_ID = "cell_pipe.req_id";
        /// Unix time at which it was made.
        START = "cell_pipe.start";
        /// Number of a heartbeat.
        HB_SEQ = "cell_pipe.hb_seq";
    }
}

/// Channels whose messages never stream; an empty name does not either. Source: `fuel/f3/cellnet/cell.py`.
pub const PLAIN_CHANNELS: [&str; 8] = [
    "admin",
    "task",
    "server_parent_listener",
    "client_command",
    "client_sub_worker_command",
    "multi_process_executor",
    "simulator_runner",
    sm::RETURN_ONLY,
];

/// The channel of file transfers between Rust cells, whose messages never stream either. Not known to the reference.
pub const TRANSFER_CHANNEL: &str = "cellnet_transfer";

/// Whether messages on a channel travel as blobs.
pub fn channel_streams(channel: &str) -> bool {
    !channel.is_empty() && channel != TRANSFER_CHANNEL && !PLAIN_CHANNELS.contains(&channel)
}
