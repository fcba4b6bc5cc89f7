//! TLS of the listener: a certificate and its key, out of PEM files.
//!
//! A connection keeps the certificate that it began with; the next one gets the one that is current then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::DateTime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::permissions::{self, OTHERS_READ, OTHERS_WRITE};

/// Others may neither read nor write a key, and its group no more than read it: so have /etc/ssl/private and systemd's
/// credentials theirs.
const NOT_FOR_A_KEY: u32 = OTHERS_READ | OTHERS_WRITE;

/// Why a certificate and its key are of no use.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot read {key} {}: {source}; the user that facetd runs as has to be able to", path.display())]
    Read { key: &'static str, path: PathBuf, source: std::io::Error },
    #[error(
        "others on this machine get at the key http.tls_key {} (mode {mode:03o}): chmod 640 it, and chgrp it to facetd's group; \
         if it lay open for long, have a new one made",
        path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("there is no certificate in http.tls_certificate {}: it wants PEM, -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate { path: PathBuf },
    #[error(
        "there is no key in http.tls_key {}: it wants PEM, -----BEGIN PRIVATE KEY-----; one with a passphrase is first to be \
         written without (openssl pkey)",
        path.display()
    )]
    NoKey { path: PathBuf },
    #[error("{key} {} is not right: {what}; have it issued or copied again", path.display())]
    NotRight { key: &'static str, path: PathBuf, what: String },
    #[error("the certificate http.tls_certificate {} expired at {at}: renew it", path.display())]
    Expired { path: PathBuf, at: String },
    #[error("the certificate http.tls_certificate {} is valid only from {at}: see whether this machine's clock is right", path.display())]
    NotYet { path: PathBuf, at: String },
    #[error(
        "the key http.tls_key {} does not belong to the certificate http.tls_certificate {}: name two that were made together",
        key.display(), certificate.display()
    )]
    OtherKey { certificate: PathBuf, key: PathBuf },
}

/// A certificate with its key that clients can take for good now.
#[derive(Debug, Clone)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    /// The last moment it is good for, in seconds since 1970.
    pub expires: i64,
}

impl Certificate {
    /// Reads both files; `now` is in seconds since 1970.
    pub fn read(certificate: &Path, key: &Path, now: i64) -> Result<Certificate, CertificateError> {
        let path = certificate.to_path_buf();
        let pem = std::fs::read(certificate);
        let pem = pem.map_err(|source| CertificateError::Read {
            key: "http.tls_certificate",
            path: certificate.to_path_buf(),
            source,
        })?;
        let not_right = |what: String| {
            let path = certificate.to_path_buf();
            CertificateError::NotRight { key: "http.tls_certificate", path, what }
        };
        let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| not_right(error.to_string()))?;
        let Some(first) = chain.first() else { return Err(CertificateError::NoCertificate { path }) };
        let (_, parsed) = X509Certificate::from_der(first).map_err(|error| not_right(error.to_string()))?;
        let validity = parsed.validity();
        let (from, expires) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        if now > expires {
            return Err(CertificateError::Expired { path, at: written(expires) });
        }
        if now < from {
            return Err(CertificateError::NotYet { path, at: written(from) });
        }
        let secret = private_key(key)?;
        let certified = CertifiedKey::from_der(chain, secret, &ring::default_provider());
        match certified {
            Ok(certified) => Ok(Certificate { certified: Arc::new(certified), expires }),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(CertificateError::OtherKey { certificate: path, key: key.to_path_buf() })
            }
            Err(error) => {
                let path = key.to_path_buf();
                Err(CertificateError::NotRight { key: "http.tls_key", path, what: error.to_string() })
            }
        }
    }

    /// Until when it is good, for people.
    pub fn valid_until(&self) -> String {
        written(self.expires)
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let found = permissions::read(path);
    let (mode, pem) =
        found.map_err(|source| CertificateError::Read { key: "http.tls_key", path: path.to_path_buf(), source })?;
    if mode & NOT_FOR_A_KEY != 0 {
        return Err(CertificateError::Open { path: path.to_path_buf(), mode });
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| CertificateError::NoKey { path: path.to_path_buf() })
}

fn written(seconds: i64) -> String {
    let at = DateTime::from_timestamp(seconds, 0).map(|at| at.format("%Y-%m-%d %H:%M UTC").to_string());
    at.unwrap_or_else(|| format!("second {seconds}"))
}

/// The certificate that connections get.
#[derive(Debug)]
pub struct Current(ArcSwap<CertifiedKey>);

impl Current {
    pub fn new(certificate: &Certificate) -> Arc<Current> {
        Arc::new(Current(ArcSwap::new(certificate.certified.clone())))
    }

    pub fn replace(&self, certificate: &Certificate) {
        self.0.store(certificate.certified.clone());
    }

    /// Speaks TLS with it.
    pub fn acceptor(self: &Arc<Current>) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has what its own versions of TLS want");
        let mut config = config.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// 2026-06-01.
    const NOW: i64 = 1_780_272_000;

    struct Files {
        _folder: tempfile::TempDir,
        certificate: PathBuf,
        key: PathBuf,
    }

    impl Files {
        fn read(&self) -> Result<Certificate, CertificateError> {
            Certificate::read(&self.certificate, &self.key, NOW)
        }

        fn set_mode(&self, mode: u32) {
            std::fs::set_permissions(&self.key, Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Good for the years from..until.
    fn made(from: i32, until: i32) -> Files {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let mut asked = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        asked.not_before = date_time_ymd(from, 1, 1);
        asked.not_after = date_time_ymd(until, 1, 1);
        let secret = KeyPair::generate().unwrap();
        std::fs::write(&certificate, asked.self_signed(&secret).unwrap().pem()).unwrap();
        std::fs::write(&key, secret.serialize_pem()).unwrap();
        let files = Files { _folder: folder, certificate, key };
        files.set_mode(0o600);
        files
    }

    #[test]
    fn a_good_one_says_until_when() {
        let files = made(2026, 2027);
        assert_eq!(files.read().unwrap().valid_until(), "2027-01-01 00:00 UTC");
        // As /etc/ssl/private and systemd's credentials have theirs.
        for mode in [0o640, 0o440, 0o400] {
            files.set_mode(mode);
            files.read().unwrap();
        }
    }

    #[test]
    fn a_bad_one_is_refused_and_named() {
        let told = |files: &Files| files.read().unwrap_err().to_string();
        assert!(told(&made(2025, 2026)).contains("expired at 2026-01-01"));
        assert!(told(&made(2027, 2028)).contains("only from 2027-01-01"));
        for mode in [0o644, 0o660, 0o604, 0o602] {
            let files = made(2026, 2027);
            files.set_mode(mode);
            let told = told(&files);
            assert!(told.contains("chmod 640") && told.contains(&format!("{mode:o}")), "{told}");
        }
        let (mine, other) = (made(2026, 2027), made(2026, 2027));
        std::fs::copy(&other.key, &mine.key).unwrap();
        assert!(told(&mine).contains("does not belong"));
        std::fs::write(&mine.key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
            .unwrap();
        assert!(told(&mine).contains("passphrase"));
        std::fs::write(&mine.certificate, "").unwrap();
        assert!(told(&mine).contains("no certificate"));
        std::fs::write(&mine.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(told(&mine).contains("not right"));
        std::fs::remove_file(&mine.certificate).unwrap();
        assert!(told(&mine).contains("cannot read http.tls_certificate"));
    }
}
