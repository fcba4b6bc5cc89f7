//! Tokens and certificate, which are read again while the daemon runs: at SIGHUP, and when their files change.
//!
//! What is not right when it is read again changes nothing: who could ask before still can, the log says why and
//! `facetd_http_renewal_failures_total` counts it. A file of tokens that is empty or gone is right: so the last token is
//! taken back, and nobody may ask.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::access::{TokenError, Tokens};
use super::tls::{Certificate, CertificateError, Current};
use crate::config::Http;
use crate::metrics::{Metrics, Renewed};
use crate::shutdown::Shutdown;

/// How often the files are looked at. One that changed is read once it has stayed as it is for that long: a certificate and
/// its key are two files.
const LOOK: Duration = Duration::from_secs(1);

/// Why the listener has no tokens or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewingError {
    #[error(transparent)]
    Tokens(#[from] TokenError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Tokens and certificate of one daemon.
pub struct Renewing {
    tokens: Option<KeptTokens>,
    certificate: Option<KeptCertificate>,
    metrics: Arc<Metrics>,
}

struct KeptTokens {
    path: PathBuf,
    current: watch::Sender<Arc<Tokens>>,
    files: Mutex<Files>,
}

struct KeptCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<Current>,
    files: Mutex<Files>,
}

impl Renewing {
    /// What the configuration names; an error where any of it is not right.
    pub fn read(http: &Http, metrics: Arc<Metrics>) -> Result<Renewing, RenewingError> {
        // Looked at first: what changes while it is read is read again.
        let tokens = http.tokens().map(|path| {
            let files = Mutex::new(Files::look(vec![path.to_path_buf()]));
            let current = watch::Sender::new(Arc::new(Tokens::read(path)?));
            Ok::<_, TokenError>(KeptTokens { path: path.to_path_buf(), current, files })
        });
        let certificate = http.tls().map(|(certificate, key)| {
            let files = Mutex::new(Files::look(vec![certificate.to_path_buf(), key.to_path_buf()]));
            let read = Certificate::read(certificate, key, now())?;
            metrics.http_certificate_expiry.set(read.expires);
            let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
            Ok::<_, CertificateError>(KeptCertificate { certificate, key, current: Current::new(&read), files })
        });
        Ok(Renewing { tokens: tokens.transpose()?, certificate: certificate.transpose()?, metrics })
    }

    /// Who may ask, as it is at any time; none: everyone.
    pub fn tokens(&self) -> Option<watch::Receiver<Arc<Tokens>>> {
        self.tokens.as_ref().map(|kept| kept.current.subscribe())
    }

    /// Speaks TLS with the certificate there is at any time; none: without TLS.
    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.certificate.as_ref().map(|kept| kept.current.acceptor())
    }

    /// Reads everything again, changed or not.
    pub fn again(&self) {
        self.tokens_again();
        self.certificate_again();
    }

    /// Reads again what changes, until `shutdown`.
    pub async fn watch(self: Arc<Renewing>, shutdown: Shutdown) {
        if self.tokens.is_none() && self.certificate.is_none() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.requested() => return,
            }
            let this = self.clone();
            // A file system may be far away.
            if tokio::task::spawn_blocking(move || this.look()).await.is_err() {
                return;
            }
        }
    }

    fn look(&self) {
        let have_changed = |files: &Mutex<Files>| files.lock().unwrap_or_else(PoisonError::into_inner).have_changed();
        if self.tokens.as_ref().is_some_and(|kept| have_changed(&kept.files)) {
            self.tokens_again();
        }
        if self.certificate.as_ref().is_some_and(|kept| have_changed(&kept.files)) {
            self.certificate_again();
        }
    }

    fn tokens_again(&self) {
        let Some(KeptTokens { path, current, .. }) = &self.tokens else { return };
        match Tokens::listed(path) {
            Ok(tokens) => {
                match tokens.is_empty() {
                    true => tracing::warn!(path = %path.display(), "there is no token any more: nobody may ask"),
                    false => tracing::info!(tokens = tokens.len(), "tokens read again"),
                }
                current.send_replace(Arc::new(tokens));
            }
            Err(error) => {
                self.metrics.not_renewed(Renewed::Tokens);
                tracing::warn!(%error, "the tokens stay as they were before");
            }
        }
    }

    fn certificate_again(&self) {
        let Some(KeptCertificate { certificate, key, current, .. }) = &self.certificate else { return };
        match Certificate::read(certificate, key, now()) {
            Ok(read) => {
                tracing::info!(valid_until = read.valid_until(), "certificate read again");
                self.metrics.http_certificate_expiry.set(read.expires);
                current.replace(&read);
            }
            Err(error) => {
                self.metrics.not_renewed(Renewed::Certificate);
                tracing::warn!(%error, "the certificate stays the one of before");
            }
        }
    }
}

fn now() -> i64 {
    crate::clock::now().0 / 1000
}

/// Files that belong together, and how they looked.
struct Files {
    paths: Vec<PathBuf>,
    /// At the last look.
    seen: Vec<Look>,
    /// When they were read.
    read: Vec<Look>,
}

/// Device, inode, length, mode, and when it was changed; none: it is not there.
type Look = Option<[i64; 6]>;

impl Files {
    fn look(paths: Vec<PathBuf>) -> Files {
        let seen: Vec<Look> = paths.iter().map(|path| look_of(path)).collect();
        Files { paths, read: seen.clone(), seen }
    }

    /// Whether they are to be read: others than those that were, and at rest. Says so once.
    fn have_changed(&mut self) -> bool {
        let now: Vec<Look> = self.paths.iter().map(|path| look_of(path)).collect();
        let rests = self.seen == now;
        self.seen = now;
        if !rests || self.seen == self.read {
            return false;
        }
        self.read.clone_from(&self.seen);
        true
    }
}

fn look_of(path: &Path) -> Look {
    let found = std::fs::metadata(path).ok()?;
    let [device, inode, length, mode] = [found.dev(), found.ino(), found.len(), u64::from(found.mode())];
    // As numbers to be compared only.
    Some([device as i64, inode as i64, length as i64, mode as i64, found.ctime(), found.ctime_nsec()])
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Config;
    use crate::http::access::{self, Scope};

    #[test]
    fn a_token_is_taken_back_by_its_file_alone_and_so_is_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let put = |text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        };
        let line = |name: &str| access::make(name, Scope::Read, Vec::new()).unwrap().1;
        let [ada, bob] = ["ada", "bob"].map(line);
        put(&format!("{ada}{bob}"));
        let http = Http { tokens: path.clone(), ..Config::parse("", std::iter::empty()).unwrap().http };
        let metrics = Arc::new(Metrics::new());
        let renewing = Renewing::read(&http, metrics.clone()).unwrap();
        let tokens = renewing.tokens().unwrap();
        // It rests between the two.
        let known = || {
            renewing.look();
            renewing.look();
            tokens.borrow().len()
        };
        let failures = || metrics.http_renewal_failures.with_label_values(&["tokens"]).get();
        assert_eq!(known(), 2);
        put(&bob);
        assert_eq!(known(), 1);
        put("nothing of the kind");
        assert_eq!((known(), failures()), (1, 1));
        put("# nobody");
        assert_eq!((known(), failures()), (0, 1));
        put(&ada);
        assert_eq!(known(), 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!((known(), failures()), (0, 1));
        put("");
        assert!(matches!(Renewing::read(&http, metrics), Err(RenewingError::Tokens(TokenError::NoToken { .. }))));
    }

    #[test]
    fn files_are_read_again_once_for_each_change_and_when_they_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("a"), "1").unwrap();
        let mut files = Files::look(vec![path("a"), path("b")]);
        assert!(!files.have_changed());
        std::fs::write(path("b"), "1").unwrap();
        assert!(!files.have_changed(), "it may still be written");
        assert!(files.have_changed());
        assert!(!files.have_changed());
        std::fs::write(path("new"), "2").unwrap();
        std::fs::rename(path("new"), path("a")).unwrap();
        std::fs::remove_file(path("b")).unwrap();
        assert!(!files.have_changed());
        assert!(files.have_changed() && !files.have_changed());
    }
}
