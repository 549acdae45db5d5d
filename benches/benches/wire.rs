//! Encoding and decoding what every message has.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use cellnet_core::{
    fobs::{self, Document, Object},
    wire::{
        Headers, Limits, Value,
        hello::{Cellnet, Hello},
        keys::cn,
    },
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn head() -> Headers {
    let mut headers = Headers::roomy();
    let texts = [
        (cn::TOPIC, "train"),
        (cn::CHANNEL, "task"),
        (cn::DESTINATION, "server"),
        (cn::REQ_ID, "0b0c3a1e-6d1f-4f6f-9a39-2a0f5a0b7f11"),
        (cn::FROM, "relay-1.site-1"),
        (cn::TO, "relay-1"),
        (cn::ORIGIN, "relay-1.site-1"),
        (cn::MSG_TYPE, "req"),
        (cn::PAYLOAD_ENCODING, "bytes"),
    ];
    texts.into_iter().for_each(|(key, value)| headers.set(key, value));
    [(cn::REPLY_EXPECTED, true), (cn::SECURE, false), (cn::OPTIONAL, false)]
        .into_iter()
        .for_each(|(key, value)| headers.set(key, value));
    headers.set(cn::ROUTE, vec![Value::Array(vec!["relay-1.site-1".into(), 1_795_415_048.28.into()])]);
    headers.set(cn::PAYLOAD_LEN, 64_u64);
    headers.set(cn::SEND_TIME, 1_795_415_048.28);
    headers
}

fn heads(c: &mut Criterion) {
    let headers = head();
    let mut block = BytesMut::new();
    headers.encode(&mut block).expect("it is small");
    let block = block.freeze();
    let mut group = c.benchmark_group("request_head");
    group.throughput(Throughput::Bytes(block.len() as u64));
    let mut out = BytesMut::with_capacity(4096);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            black_box(&headers).encode(&mut out).expect("it is small");
        });
    });
    group.bench_function("decode", |b| b.iter(|| Headers::decode(black_box(&block)).expect("it is whole")));
    group.finish();
}

fn hellos(c: &mut Criterion) {
    let hello = Hello { name: "relay-1.site-1".into(), cellnet: Some(Cellnet::new([7; 16])), timestamp: 1.0 };
    let payload = hello.encode();
    let mut group = c.benchmark_group("hello");
    group.bench_function("encode", |b| b.iter(|| black_box(&hello).encode()));
    group.bench_function("decode", |b| b.iter(|| Hello::decode(black_box(&payload)).expect("it is whole")));
    group.finish();
}

fn fobs_maps(c: &mut Criterion) {
    let entry = |number: i64| {
        let value: Object =
            [("loss", Object::from(0.25)), ("step", Object::from(number))].into_iter().collect();
        (format!("metric-{number}"), value)
    };
    let map: Object =
        (0..100).map(entry).chain([("w".to_owned(), Object::from(Bytes::from(vec![1; 4096])))]).collect();
    let document = Document::new(map);
    let payload = fobs::encode(&document);
    let mut group = c.benchmark_group("fobs_map");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("encode", |b| b.iter(|| fobs::encode(black_box(&document))));
    group.bench_function("decode", |b| {
        b.iter(|| fobs::decode(black_box(&payload), Limits::PAYLOAD).expect("it is whole"))
    });
    group.finish();
}

criterion_group!(benches, heads, hellos, fobs_maps);
criterion_main!(benches);
