//! facetd keeps a growing collection of faces clustered by identity while they arrive.
//!
//! The rooms, in the order data walks through them:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`face`] | the words of the domain as types |
//! | [`source`] | records out of Kafka, with bounded memory |
//! | [`codec`] | a record's bytes to a checked face, or a [`rejection`] |
//! | [`engine`] | index, graph, encode, link, cluster: a batch of faces to changes of clusters |
//! | [`model`] | the Face Transformer's two ONNX graphs behind one trait |
//! | [`store`] | the commit point: vectors, sled, outbox |
//! | [`publish`] | the outbox to Kafka as CloudEvents, state records and dead letters |
//! | [`kafka`] | what every client of Kafka has in common |
//! | [`view`] | the read side: who is where, while the engine runs |
//! | [`asks`] | what others ask of the engine's thread, answered between two batches |
//! | [`http`] | the API, metrics and health |
//! | [`daemon`] | the rooms wired into threads, with one way to stop: [`shutdown`]; reloading; reclustering |
//! | [`notify`] | what systemd is told |
//! | [`traces`] | what took how long, as spans to a collector |
//!
//! [`config`] and [`metrics`] declare every key and every metric in one place; [`clock`] is the one there is; [`failpoint`] is where
//! tests have the program die; [`progress`] is how long work is watched,
//! `seldom` what keeps a log from being flooded.
//!
//! Beside the daemon stand the tools that share its parts: [`features`], [`evaluate`], [`synth`],
//! [`replay`] (faces into Kafka), [`redrive`] (dead letters' records once more) and [`reader`] (the reference consumer of the events).
#![deny(unsafe_code)]

pub mod asks;
pub mod audit;
pub mod clock;
pub mod codec;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod evaluate;
pub mod face;
pub mod failpoint;
pub mod features;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod histories;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod model;
pub mod notify;
mod permissions;
pub mod progress;
pub mod publish;
pub mod reader;
pub mod redrive;
pub mod rejection;
pub mod replay;
mod seldom;
pub mod shutdown;
pub mod source;
pub mod store;
pub mod synth;
pub mod traces;
pub mod view;
