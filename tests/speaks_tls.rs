//! Promise: with a certificate the daemon speaks TLS and nothing else; it takes a renewed certificate without a restart and
//! without dropping a connection, keeps the old one where the new is not right, and does not start with one that is of no
//! use.

mod common;

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::broker::MockBroker;
use common::daemon::{Installation, Settings};
use common::{facetd, project, wait_for};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const LIMIT: Duration = Duration::from_secs(120);

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn put(&self, certificate: &str, key: &str) {
        std::fs::write(self.key(), key).unwrap();
        std::fs::set_permissions(self.key(), Permissions::from_mode(0o640)).unwrap();
        std::fs::write(self.certificate(), certificate).unwrap();
    }

    /// A new one, good until the beginning of a year.
    fn make(&self, until: i32) -> CertificateDer<'static> {
        let mut asked = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        asked.not_before = date_time_ymd(2020, 1, 1);
        asked.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = asked.self_signed(&key).unwrap();
        self.put(&certificate.pem(), &key.serialize_pem());
        certificate.der().clone()
    }

    fn given_to(&self, command: &mut Command) {
        command.env("FACETD_HTTP__TLS_CERTIFICATE", self.certificate()).env("FACETD_HTTP__TLS_KEY", self.key());
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Trusts one certificate alone.
fn connect(address: &str, trusted: &CertificateDer<'static>) -> Option<Stream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    Some(StreamOwned::new(session, stream))
}

/// The beginning of the answer, on a connection that goes on.
fn healthy(stream: &mut Stream) -> bool {
    let mut answer = [0; 15];
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let is_answered = asked.and_then(|()| stream.read_exact(&mut answer)).is_ok();
    // Up to the end of the body, so that the next answer is the next.
    let mut end = Vec::new();
    while is_answered && !end.ends_with(b"ok\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        end.push(byte[0]);
    }
    &answer == b"HTTP/1.1 200 OK"
}

fn get(address: &str, trusted: &CertificateDer<'static>, path: &str) -> Option<String> {
    let mut stream = connect(address, trusted)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn a_certificate_is_used_renewed_and_never_exchanged_for_a_bad_one() {
    let broker = MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" });
    let (address, files) = (installation.address(), Files { folder: tempfile::tempdir().unwrap() });
    let first = files.make(2100);
    let daemon = installation.spawn(|command| files.given_to(command));
    let ready = || get(address, &first, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"));
    wait_for("it to be ready", LIMIT, ready);
    assert!(installation.get("/healthz").is_none_or(|answer| !answer.contains("200")), "it speaks without TLS too");
    let metrics = || get(address, &first, "/metrics").unwrap();
    assert!(metrics().contains("\nfacetd_http_certificate_expiry_timestamp_seconds 4102444800\n"), "{}", metrics());
    assert!(metrics().contains("\nfacetd_http_cut_off_total{at=\"handshake\"} 1\n"), "{}", metrics());

    let mut before = connect(address, &first).unwrap();
    assert!(healthy(&mut before));
    let second = files.make(2101);
    wait_for("the renewed one", LIMIT, || get(address, &second, "/healthz"));
    assert!(get(address, &first, "/healthz").is_none(), "the old one is still given");
    assert!(healthy(&mut before), "a connection was dropped");

    let key = std::fs::read_to_string(files.key()).unwrap();
    files.put("nothing", &key);
    let kept = || installation.log().matches("the certificate stays the one of before").count();
    wait_for("the bad one to be told of", LIMIT, || (kept() > 0).then_some(()));
    assert!(get(address, &second, "/healthz").is_some());
    daemon.hang_up();
    wait_for("a reload", LIMIT, || installation.log().contains("configuration reloaded").then_some(()));
    assert_eq!(kept(), 2, "once for the change and once for the reload");

    // Nobody is asked by who only holds a connection.
    let mut idle = connect(address, &second).unwrap();
    assert!(healthy(&mut idle));
    assert!(daemon.terminate().success(), "{}", installation.log());
}

#[test]
fn one_that_is_of_no_use_is_refused_at_the_start_and_by_check() {
    let broker = MockBroker::start();
    let model = project().join("tests/fixtures/model");
    let installation = Installation::new(&Settings { topics: &broker.topics, model: &model, more: "" });
    let files = Files { folder: tempfile::tempdir().unwrap() };
    let check = || {
        let mut check = facetd();
        check.args(["check", "--config"]).arg(installation.config());
        files.given_to(&mut check);
        let told = String::from_utf8(check.output().unwrap().stdout).unwrap();
        told.lines().find(|line| line.starts_with("http")).unwrap().to_string()
    };
    let refuses = |what: &str| {
        let mut command = installation.command();
        files.given_to(&mut command);
        assert!(!command.status().unwrap().success());
        let log = installation.log();
        assert!(log.lines().last().unwrap().contains(what), "{log}");
        let told = check();
        assert!(told.contains("FAIL") && told.contains(what), "{told}");
    };
    files.make(2100);
    let told = check();
    assert!(told.contains("ok") && told.ends_with("valid until 2100-01-01 00:00 UTC"), "{told}");
    std::fs::set_permissions(files.key(), Permissions::from_mode(0o644)).unwrap();
    refuses("chmod 640");
    files.make(2021);
    refuses("expired at 2021-01-01");
    std::fs::remove_file(files.key()).unwrap();
    files.make(2100);
    std::fs::remove_file(files.key()).unwrap();
    refuses("cannot read http.tls_key");
}
