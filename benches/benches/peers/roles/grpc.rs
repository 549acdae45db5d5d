//! tonic: unary calls whose messages are bytes as they are, without Protocol Buffers.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes};
use serde_json::Value;
use tonic::{
    Request, Response, Status,
    body::Body,
    client,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{
        BoxFuture, Service,
        http::{self, uri::PathAndQuery},
    },
    server::{self, UnaryService},
    transport::{Endpoint, Server, server::TcpIncoming},
};

use super::callers::ask_all;
use crate::child::{self, Job, runtime};

/// Answers for ever.
pub(super) fn serve() -> ! {
    let ended = runtime().block_on(async {
        let address = "127.0.0.1:0".parse().expect("an address");
        let incoming = TcpIncoming::bind(address).expect("loopback is there").with_nodelay(Some(true));
        child::ready(incoming.local_addr().expect("it is bound"));
        Server::builder().serve_with_incoming(Calls, incoming).await
    });
    panic!("the server ended: {ended:?}")
}

/// Does the job. A client is a channel, which is a connection.
pub(super) fn run(address: &str, job: &Job) -> Value {
    let path = PathAndQuery::from_static(match job.workload.as_str() {
        "rr" => ECHO,
        "blob" => SWALLOW,
        other => panic!("{other} is not done by gRPC"),
    });
    let payload = Bytes::from(vec![7; job.size]);
    runtime().block_on(async {
        let mut callers = Vec::new();
        for _ in 0..job.clients {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a valid URL");
            let channel = endpoint.tcp_nodelay(true).connect().await.expect("the server is there");
            for _ in 0..job.inflight {
                let (channel, path, payload) = (channel.clone(), path.clone(), payload.clone());
                callers.push(move || {
                    let mut calls = client::Grpc::new(channel.clone());
                    let (path, payload) = (path.clone(), payload.clone());
                    async move {
                        calls.ready().await.expect("the connection stays");
                        let reply = calls.unary(Request::new(payload), path, Plain).await;
                        reply.expect("the server answers");
                    }
                });
            }
        }
        ask_all(job, callers.into_iter()).await
    })
}

const ECHO: &str = "/bench.Peers/Echo";
const SWALLOW: &str = "/bench.Peers/Swallow";

/// The service, without a router.
#[derive(Clone)]
struct Calls;

impl Service<http::Request<Body>> for Calls {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = server::Grpc::new(Plain).max_decoding_message_size(MAX_MESSAGE);
            Ok(match request.uri().path() {
                ECHO => grpc.unary(Answer(Ok), request).await,
                SWALLOW => grpc.unary(Answer(|_| Ok(Bytes::new())), request).await,
                _ => Status::unimplemented("there are two methods").into_http(),
            })
        })
    }
}

/// More than any payload here; 4 MiB is what tonic takes otherwise.
const MAX_MESSAGE: usize = 64 << 20;

/// A method.
struct Answer(fn(Bytes) -> Result<Bytes, Status>);

impl UnaryService<Bytes> for Answer {
    type Response = Bytes;
    type Future = std::future::Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        std::future::ready(self.0(request.into_inner()).map(Response::new))
    }
}

/// Bytes are their own encoding.
#[derive(Debug, Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, held: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(held.copy_to_bytes(held.remaining())))
    }
}
