//! A collector of traces, as small as it can be: OTLP over HTTP, in this process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// Listens until the process ends.
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

/// A request as it came.
#[derive(Clone)]
pub struct Received {
    pub path: String,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

/// How a collector answers.
#[derive(Clone, Copy)]
pub enum Manner {
    Takes,
    /// All but this many spans of each request.
    TakesInPart(i64),
    /// With a status.
    Refuses(u16),
    /// It reads, and never answers.
    IsSilent,
}

impl Collector {
    pub fn start(manner: Manner) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, received) = (listener.local_addr().unwrap(), Arc::default());
        let all: Arc<Mutex<Vec<Received>>> = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, all) = (stream.unwrap(), all.clone());
                std::thread::spawn(move || serve(stream, manner, &all));
            }
        });
        Collector { address, received }
    }

    /// What `traces.endpoint` is to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Every span that came so far.
    pub fn spans(&self) -> Vec<Span> {
        let requests = self.received().into_iter();
        let decoded = requests.map(|request| ExportTraceServiceRequest::decode(&request.body[..]).unwrap());
        let resources = decoded.flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn serve(stream: TcpStream, manner: Manner, all: &Mutex<Vec<Received>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = request(&mut reader) {
        all.lock().unwrap().push(request);
        let (status, body) = match manner {
            Manner::Takes => (200, Vec::new()),
            Manner::TakesInPart(rejected_spans) => {
                let partial = ExportTracePartialSuccess { rejected_spans, error_message: "too many".to_string() };
                (200, ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec())
            }
            Manner::Refuses(status) => (status, Vec::new()),
            Manner::IsSilent => continue,
        };
        let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n", body.len());
        // Whoever asked may be gone.
        let _ = reader.get_mut().write_all(&[head.as_bytes(), &body].concat());
    }
}

/// The next one; none once the connection has ended.
fn request(reader: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let path = head.split(' ').nth(1).unwrap().to_string();
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap().trim().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { path, head, body })
}

/// What a span says, as text.
pub fn facts(span: &Span) -> BTreeMap<String, String> {
    let said = span.attributes.iter().map(|fact| (fact.key.clone(), text(fact.value.as_ref().unwrap().value.as_ref())));
    said.collect()
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            let values: Vec<String> = list.values.iter().map(|value| text(value.value.as_ref())).collect();
            format!("[{}]", values.join(","))
        }
        other => panic!("{other:?}"),
    }
}
