//! What tokens are verified with: a secret, a public key or a set of keys.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation,
    errors::ErrorKind,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use prometheus_client::metrics::counter::Counter;
use serde::Deserialize;

use super::caller::Claims;

/// Verified tokens remembered, unless told otherwise; verifying one costs about 2.5 us, finding it 0.1 us.
const REMEMBERED: usize = 4_096;
/// The longest token remembered, in bytes. Users choose how long theirs are, for they carry their metadata.
const REMEMBERED_LENGTH: usize = 8_192;
/// RFC 7518 wants a key as long as the hash, 32 bytes for HS256.
const SHORTEST_SECRET: usize = 32;

/// Verifies tokens, and remembers those it has.
pub struct Verifier {
    keys: Vec<Key>,
    remembered: usize,
    verified: Mutex<HashMap<String, Arc<Claims>>>,
    lookups: Counter,
    hits: Counter,
    evictions: Counter,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys.len()).finish()
    }
}

struct Key {
    /// The name by which a token may call it; without one it answers to all.
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a token is refused, apart from its time claims ([`Claims::expired`]).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// Not three parts separated by dots.
    #[error("token is malformed: token contains an invalid number of segments")]
    Parts(usize),
    /// Its parts are not base64 or not JSON objects.
    #[error("token is malformed")]
    Malformed,
    /// Signed properly, but what was signed are no claims.
    #[error("token is malformed")]
    Claims,
    /// Not signed at all.
    #[error("signing method is invalid")]
    Unsigned,
    /// No key of ours has its name and algorithm.
    #[error("signing method is invalid")]
    Algorithm,
    /// Signed by somebody else.
    #[error("signature is invalid")]
    Signature,
}

/// The part of a token's header that says which key to try. An algorithm we do not know is no reason to call the
/// token malformed.
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
}

impl Verifier {
    /// By a secret that both sides know (HS256).
    pub fn of_secret(secret: &[u8]) -> Self {
        Self::new(vec![Key {
            id: None,
            algorithms: vec![Algorithm::HS256],
            key: DecodingKey::from_secret(secret),
        }])
    }

    /// By a JSON web key, a set of them, or else the bytes themselves as a secret.
    ///
    /// # Errors
    /// When a key cannot be used, or a secret is too short.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let set = match serde_json::from_slice::<JwkSet>(bytes) {
            Ok(set) => set.keys,
            Err(_) => match serde_json::from_slice::<Jwk>(bytes) {
                Ok(key) => vec![key],
                Err(_) if bytes.len() < SHORTEST_SECRET => return Err("is shorter than 32 bytes"),
                Err(_) => return Ok(Self::of_secret(bytes)),
            },
        };
        let keys: Option<Vec<Key>> = set.iter().filter(|key| signs(key)).map(Key::of).collect();
        Ok(Self::new(keys.ok_or("has a key that cannot be used")?))
    }

    /// The same, remembering so many tokens.
    #[must_use]
    pub fn remembering(self, tokens: usize) -> Self {
        Self {
            remembered: tokens,
            ..self
        }
    }

    /// How many tokens were looked for among those remembered, found there, and forgotten to make room.
    pub fn counted(&self) -> [u64; 3] {
        [&self.lookups, &self.hits, &self.evictions].map(Counter::get)
    }

    fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            remembered: REMEMBERED,
            verified: Mutex::default(),
            lookups: Counter::default(),
            hits: Counter::default(),
            evictions: Counter::default(),
        }
    }

    /// The claims of a token whose signature is right. Time claims are the caller's to check: each service has
    /// its own leeway and its own words for it.
    ///
    /// # Errors
    /// When the token is no token or not signed with a key of ours.
    pub fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        self.lookups.inc();
        if let Some(claims) = self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(token) {
            self.hits.inc();
            return Ok(Arc::clone(claims));
        }
        let parts = token.split('.').count();
        if parts != 3 {
            return Err(TokenError::Parts(parts));
        }
        let claims = Arc::new(self.decode(token)?);
        if token.len() > REMEMBERED_LENGTH || self.remembered == 0 {
            return Ok(claims);
        }
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= self.remembered {
            self.evictions.inc_by(verified.len() as u64);
            verified.clear();
        }
        verified.insert(token.to_owned(), Arc::clone(&claims));
        Ok(claims)
    }

    fn decode(&self, token: &str) -> Result<Claims, TokenError> {
        let head = token.split('.').next().unwrap_or_default();
        let head = BASE64_URL_SAFE_NO_PAD.decode(head).ok();
        let head: Head = head
            .and_then(|head| serde_json::from_slice(&head).ok())
            .ok_or(TokenError::Malformed)?;
        if head.alg == "none" {
            return Err(TokenError::Unsigned);
        }
        let algorithm: Algorithm = head.alg.parse().map_err(|_| TokenError::Algorithm)?;
        let mut rules = Validation::new(algorithm);
        rules.required_spec_claims.clear();
        (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
        let mut refusal = TokenError::Algorithm;
        for key in self.keys.iter().filter(|key| key.fits(&head, algorithm)) {
            match jsonwebtoken::decode(token, &key.key, &rules) {
                Ok(decoded) => return Claims::new(decoded.claims).ok_or(TokenError::Claims),
                Err(error) => {
                    refusal = match error.kind() {
                        ErrorKind::InvalidSignature => TokenError::Signature,
                        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => TokenError::Algorithm,
                        ErrorKind::Json(_) => TokenError::Claims,
                        _ => TokenError::Malformed,
                    }
                }
            }
        }
        Err(refusal)
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let family = match key.family() {
            AlgorithmFamily::Hmac => [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512].as_slice(),
            AlgorithmFamily::Rsa => &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512],
            AlgorithmFamily::Ec => &[Algorithm::ES256, Algorithm::ES384],
            AlgorithmFamily::Ed => &[Algorithm::EdDSA],
        };
        let own: Option<Algorithm> = jwk
            .common
            .key_algorithm
            .and_then(|algorithm| algorithm.to_string().parse().ok());
        Some(Self {
            id: jwk.common.key_id.clone(),
            algorithms: own.map_or_else(|| family.to_vec(), |own| vec![own]),
            key,
        })
    }

    fn fits(&self, head: &Head, algorithm: Algorithm) -> bool {
        let called = self.id.is_none() || head.kid.is_none() || self.id == head.kid;
        called && self.algorithms.contains(&algorithm)
    }
}

fn signs(key: &Jwk) -> bool {
    !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption))
}
