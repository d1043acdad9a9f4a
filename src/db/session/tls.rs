//! TLS as a connection URL's `sslmode` asks for it.

use std::{io, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use sqlx::postgres::PgSslMode;

/// How to encrypt a connection.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    /// The client's side of the handshake.
    pub config: Arc<ClientConfig>,
    /// Whether a server without TLS is refused.
    pub required: bool,
}

impl Tls {
    /// TLS for a mode; `None` for plain text. `root` is a file of PEM certificates trusted besides the public ones.
    pub fn new(mode: PgSslMode, root: Option<&Path>) -> io::Result<Option<Self>> {
        let trust = match mode {
            PgSslMode::Disable | PgSslMode::Allow => return Ok(None),
            // As libpq: a given root makes `require` check the chain.
            PgSslMode::Prefer => Trust::Anyone,
            PgSslMode::Require if root.is_none() => Trust::Anyone,
            PgSslMode::Require | PgSslMode::VerifyCa => Trust::Chain(verifier(root)?),
            PgSslMode::VerifyFull => Trust::ChainAndName(verifier(root)?),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { trust, provider }))
            .with_no_client_auth();
        let required = !matches!(mode, PgSslMode::Prefer);
        Ok(Some(Self {
            config: Arc::new(config),
            required,
        }))
    }
}

fn verifier(root: Option<&Path>) -> io::Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(file) = root {
        for certificate in CertificateDer::pem_file_iter(file).map_err(io::Error::other)? {
            roots
                .add(certificate.map_err(io::Error::other)?)
                .map_err(io::Error::other)?;
        }
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()))
        .build()
        .map_err(io::Error::other)
}

/// Whom to believe. libpq's `require` encrypts towards anybody, `verify-ca` accepts any name, and only
/// `verify-full` does what a browser does; users of the same URLs expect the same here.
#[derive(Debug)]
enum Trust {
    Anyone,
    Chain(Arc<WebPkiServerVerifier>),
    ChainAndName(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anyone => Ok(ServerCertVerified::assertion()),
            Trust::ChainAndName(verifier) => verifier.verify_server_cert(certificate, chain, name, ocsp, now),
            Trust::Chain(verifier) => match verifier.verify_server_cert(certificate, chain, name, ocsp, now) {
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                verdict => verdict,
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
