//! Connections: how many, over TLS or not, and how long a client may take. None of it may hold anything up for ever.
//!
//! | cut off | because |
//! | --- | --- |
//! | the handshake of TLS, the head of a request, its body | it has to be there within a time |
//! | an answer, an event stream | [`PACE_BYTES`] of it, or what is left, have to be taken within a time, however long it all takes |
//! | a connection too many | it is closed at once, so that nobody waits in a queue for a place that may never be free |
//!
//! Between two requests a connection may idle as long as a head may take.

use std::error::Error as _;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::metrics::{CutOff, Metrics};
use crate::shutdown::Shutdown;

/// Of the head of a request, and of what is written at once of an answer: memory of a connection.
const MOST_BUFFERED_BYTES: usize = 64 << 10;
/// What of an answer has to be taken within a time, before the next of it has as long again.
const PACE_BYTES: usize = MOST_BUFFERED_BYTES;
/// How long nothing is accepted after an error that is not of one connection, such as no descriptors left.
const PAUSE: Duration = Duration::from_secs(1);

/// How much of everything clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub connections: usize,
    pub handshake: Duration,
    pub head: Duration,
    pub body: Duration,
    /// To take [`PACE_BYTES`] of an answer, or what is left of it.
    pub answer: Duration,
}

impl Bounds {
    pub fn new(connections: usize) -> Bounds {
        let seconds = Duration::from_secs;
        Bounds { connections, handshake: seconds(10), head: seconds(15), body: seconds(30), answer: seconds(30) }
    }
}

/// What every connection is given.
struct Served {
    app: Router,
    tls: Option<TlsAcceptor>,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

/// Answers until `shutdown`, and then until every answer that was begun is given. Dropped before, it cuts them off.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    tls: Option<TlsAcceptor>,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) {
    let served = Arc::new(Served { app, tls, bounds, metrics, shutdown: shutdown.clone() });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok(_) if connections.len() >= bounds.connections => served.metrics.http_turned_away.inc(),
            Ok((stream, _)) => drop(connections.spawn(connection(stream, served.clone()))),
            Err(error) if is_of_one(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the listener takes no connection");
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = shutdown.requested() => break,
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Whether the error is of the connection that was to be accepted, and the next one may be as well as any.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(stream: TcpStream, served: Arc<Served>) {
    let _counted = Counted::new(&served.metrics);
    // An event is sent when it happens; where it cannot be set it is only later.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &served.tls else { return speak(stream, &served).await };
    let handshake = tokio::select! {
        handshake = timeout(served.bounds.handshake, tls.accept(stream)) => handshake,
        // Nothing is asked yet.
        () = served.shutdown.requested() => return,
    };
    match handshake {
        Ok(Ok(stream)) => speak(stream, &served).await,
        Ok(Err(error)) => {
            served.metrics.cut_off(CutOff::Handshake);
            tracing::debug!(%error, "no TLS came about with a client");
        }
        Err(_) => served.metrics.cut_off(CutOff::Handshake),
    }
}

/// Counts a connection while it is there.
struct Counted<'a>(&'a Metrics);

impl Counted<'_> {
    fn new(metrics: &Metrics) -> Counted<'_> {
        metrics.http_connections.inc();
        Counted(metrics)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.http_connections.dec();
    }
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, served: &Served) {
    let Served { app, bounds, metrics, shutdown, .. } = served;
    let is_asking = Arc::<AtomicBool>::default();
    let stream = Bounded { stream, within: bounds.answer, waits: None, taken: 0, is_asking: is_asking.clone() };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(MOST_BUFFERED_BYTES);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app.clone())));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let Err(error) = ended else { return };
    let is_timeout = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
    if error.source().and_then(|source| source.downcast_ref()).is_some_and(is_timeout) {
        metrics.cut_off(CutOff::Answer);
    } else if error.is_timeout() && is_asking.load(Ordering::Relaxed) {
        // One that only idled between two requests is as it should be.
        metrics.cut_off(CutOff::Head);
    }
}

/// A stream whose reader has to take what is written at a pace, counted from when it first could not be.
struct Bounded<S> {
    stream: S,
    within: Duration,
    waits: Option<Pin<Box<Sleep>>>,
    /// Bytes, since it waits.
    taken: usize,
    /// Something came since something was last sent.
    is_asking: Arc<AtomicBool>,
}

impl<S> Bounded<S> {
    fn begin_anew(&mut self) {
        (self.waits, self.taken) = (None, 0);
    }

    fn bounded<T>(&mut self, context: &mut Context, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        let within = self.within;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(within)));
        waits.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.is_asking.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_asking.store(false, Ordering::Relaxed);
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(taken)) = polled {
            self.taken += taken;
            if self.taken >= PACE_BYTES {
                self.begin_anew();
            }
        }
        self.bounded(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if polled.is_ready() {
            // All there was is on its way.
            self.begin_anew();
        }
        self.bounded(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::Notify;

    use super::*;
    use crate::http::{Shown, router};

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(50);
    const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";

    /// Nothing is cut off but what a test says.
    const PATIENT: Bounds = Bounds { connections: 100, handshake: LONG, head: LONG, body: LONG, answer: LONG };

    fn shown(bounds: Bounds) -> Shown {
        Shown { bounds, ..Shown::new(Arc::new(Metrics::new()), Arc::default(), Shutdown::default(), None, 100) }
    }

    /// The daemon's own answers, within bounds.
    fn served(bounds: Bounds) -> Served {
        let shown = shown(bounds);
        let (metrics, shutdown) = (shown.metrics.clone(), shown.shutdown.clone());
        Served { app: router(shown), tls: None, bounds, metrics, shutdown }
    }

    fn cut_off(served: &Served) -> Vec<&'static str> {
        let all = [CutOff::Handshake, CutOff::Head, CutOff::Body, CutOff::Answer];
        let count = |at: &CutOff| served.metrics.http_cut_off.with_label_values(&[at.name()]).get();
        all.into_iter().filter(|at| count(at) > 0).map(CutOff::name).collect()
    }

    /// What a client is told that says `said` and then nothing more, and does not leave.
    async fn told(served: &Served, said: &[u8]) -> String {
        let (mut client, stream) = duplex(1 << 20);
        client.write_all(said).await.unwrap();
        timeout(LONG, speak(stream, served)).await.expect("it is let go of");
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        String::from_utf8(told).unwrap()
    }

    #[tokio::test]
    async fn a_head_that_trickles_is_cut_off_and_who_idles_is_let_go_of() {
        let hasty = Bounds { head: SHORT, ..PATIENT };
        let slow = served(hasty);
        assert!(!told(&slow, &ASK[..20]).await.contains("200"));
        assert_eq!(cut_off(&slow), ["head"]);
        let idle = served(hasty);
        assert!(told(&idle, ASK).await.starts_with("HTTP/1.1 200"));
        assert!(cut_off(&idle).is_empty());
    }

    #[tokio::test]
    async fn until_the_state_is_loaded_nobody_is_told_that_something_is_not_there() {
        let loading = served(Bounds { head: SHORT, ..PATIENT });
        for asked in
            ["GET /v1/collections", "GET /v1/collections/lobby/faces/a", "DELETE /v1/collections/lobby/faces/a"]
        {
            let told = told(&loading, format!("{asked} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await;
            assert!(told.starts_with("HTTP/1.1 503") && told.contains("urn:facetd:not-ready"), "{asked}: {told}");
        }
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_a_problem() {
        let slow = served(Bounds { body: SHORT, ..PATIENT });
        let head =
            "POST /v1/search HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n";
        let told = told(&slow, format!("{head}{{").as_bytes()).await;
        assert!(told.starts_with("HTTP/1.1 408") && told.contains("application/problem+json"), "{told}");
        assert!(told.contains("urn:facetd:too-slow-a-body"), "{told}");
        assert_eq!(cut_off(&slow), ["body"]);
    }

    /// Serves a megabyte at `/`.
    fn served_much(bounds: Bounds) -> Served {
        Served { app: Router::new().route("/", get(|| async { vec![b'x'; 1 << 20] })), ..served(bounds) }
    }

    async fn asks_for_much() -> (DuplexStream, DuplexStream) {
        let (mut client, stream) = duplex(1 << 10);
        client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
        (client, stream)
    }

    #[tokio::test]
    async fn who_does_not_read_is_cut_off_and_who_does_is_not() {
        let slow = served_much(Bounds { answer: SHORT, ..PATIENT });
        let (_client, stream) = asks_for_much().await;
        timeout(LONG, speak(stream, &slow)).await.expect("it is let go of");
        assert_eq!(cut_off(&slow), ["answer"]);

        let fast = served_much(PATIENT);
        let (mut client, stream) = asks_for_much().await;
        let mut answer = Vec::new();
        let (_, read) = tokio::join!(speak(stream, &fast), client.read_to_end(&mut answer));
        assert!(read.unwrap() > 1 << 20);
        assert!(cut_off(&fast).is_empty());
    }

    #[tokio::test]
    async fn who_keeps_reading_is_not_cut_off_however_long_it_takes_and_who_trickles_is() {
        let within = Duration::from_secs(1);
        let steady = served_much(Bounds { answer: within, ..PATIENT });
        let (mut client, stream) = asks_for_much().await;
        let begun = Instant::now();
        let reads = async {
            let mut part = vec![0; PACE_BYTES];
            let mut all = 0;
            loop {
                match client.read(&mut part).await.unwrap() {
                    0 => return all,
                    read => all += read,
                }
                // A link that is slow: 1 KiB of the pipe at a time.
                sleep(within / 500).await;
            }
        };
        let (_, read) = tokio::join!(speak(stream, &steady), reads);
        assert!(begun.elapsed() > within && read > 1 << 20, "{read} bytes in {:?}", begun.elapsed());
        assert!(cut_off(&steady).is_empty());

        let trickling = served_much(Bounds { answer: SHORT, ..PATIENT });
        let (mut client, stream) = asks_for_much().await;
        let trickles = async {
            while client.read_u8().await.is_ok() {
                sleep(SHORT / 50).await;
            }
        };
        let served = async { tokio::select!(() = speak(stream, &trickling) => {}, () = trickles => {}) };
        timeout(LONG, served).await.expect("it is let go of");
        assert_eq!(cut_off(&trickling), ["answer"]);
    }

    /// A listener that is served, and the task that ends when it is done.
    async fn listening(app: Router, shown: &Shown) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let Shown { bounds, metrics, shutdown, .. } = shown.clone();
        (address, tokio::spawn(serve(listener, app, None, bounds, metrics, shutdown)))
    }

    /// Asks and reads the beginning of the answer.
    async fn asked(stream: &mut TcpStream) -> std::io::Result<String> {
        stream.write_all(ASK).await?;
        let mut begun = [0; 15];
        stream.read_exact(&mut begun).await?;
        Ok(String::from_utf8(begun.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_counted() {
        let shown = shown(Bounds { connections: 1, ..PATIENT });
        let (address, serving) = listening(router(shown.clone()), &shown).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert_eq!(asked(&mut first).await.unwrap(), "HTTP/1.1 200 OK");
        let mut second = TcpStream::connect(address).await.unwrap();
        assert!(asked(&mut second).await.is_err());
        assert_eq!((shown.metrics.http_turned_away.get(), shown.metrics.http_connections.get()), (1, 1));
        drop(first);
        // Its place is free once its end was noticed.
        let again = async {
            while asked(&mut TcpStream::connect(address).await.unwrap()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, again).await.unwrap();
        shown.shutdown.request();
        timeout(LONG, serving).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stop_answers_what_was_asked_and_waits_for_nobody_who_idles() {
        let shown = shown(PATIENT);
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tells, waits) = (begun.clone(), go_on.clone());
        let slow = get(move || async move {
            tells.notify_one();
            waits.notified().await;
            "done"
        });
        let app = Router::new().route("/slow", slow).route("/healthz", get(|| async { "ok" }));
        let (address, serving) = listening(app, &shown).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        asked(&mut idle).await.unwrap();
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        begun.notified().await;
        shown.shutdown.request();
        // It ends while the other is still to be answered.
        timeout(LONG, idle.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
        assert!(!serving.is_finished());
        go_on.notify_one();
        let mut answer = String::new();
        timeout(LONG, asking.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
        timeout(LONG, serving).await.unwrap().unwrap();
    }
}
