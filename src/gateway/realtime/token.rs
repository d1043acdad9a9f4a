//! Whom a token speaks for, in Realtime's words.

use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::gateway::{
    answers::{Answers, Writer},
    caller::Claims,
    keys::{Keys, now},
    verifier,
};

/// Role and claims: two channels with the same ones see the same rows.
#[derive(Debug)]
pub struct Identity {
    /// The database role.
    pub role: String,
    /// All claims, the role among them.
    pub claims: Arc<Claims>,
}

/// A verified token.
#[derive(Clone, Debug)]
pub struct Token {
    /// SHA-256 of its text: enough to know it again, and a tenth of it.
    digest: [u8; 32],
    /// Whom it speaks for.
    pub identity: Arc<Identity>,
    /// When it ends, seconds since 1970.
    pub expiry: i64,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TokenError {
    /// No token at all.
    #[error("The token provided is not a valid JWT")]
    Malformed,
    /// Signed in a way we have no key for.
    #[error("Failed to generate JWT signer, check your JWT secret or JWKS configuration")]
    Signer,
    /// Signed by somebody else.
    #[error("Failed to validate JWT signature")]
    Signature,
    /// It does not say who or how long.
    #[error("Fields `role` and `exp` are required in JWT")]
    Fields,
    /// It ended this many seconds ago.
    #[error("Token has expired {0} seconds ago")]
    Expired(i64),
}

impl TokenError {
    /// Realtime's error code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "MalformedJWT",
            Self::Signer => "JwtSignerError",
            Self::Signature => "JwtSignatureError",
            Self::Fields | Self::Expired(_) => "InvalidJWTToken",
        }
    }
}

impl Token {
    /// Reads a token, or an API key that stands for one.
    ///
    /// # Errors
    /// When it is not ours, over, or lacks `role` or `exp`.
    pub fn verify(keys: &Keys, text: &str) -> Result<Self, TokenError> {
        let claims = keys.verify(keys.token_of(text)).map_err(|error| match error {
            verifier::TokenError::Parts(_) | verifier::TokenError::Malformed | verifier::TokenError::Claims => {
                TokenError::Malformed
            }
            verifier::TokenError::Unsigned | verifier::TokenError::Algorithm => TokenError::Signer,
            verifier::TokenError::Signature => TokenError::Signature,
        })?;
        let (Some(role), Some(expiry)) = (claims.role(), claims.expiry()) else {
            return Err(TokenError::Fields);
        };
        let token = Self {
            digest: Sha256::digest(text).into(),
            identity: Arc::new(Identity {
                role: role.to_owned(),
                claims: Arc::clone(&claims),
            }),
            expiry,
        };
        token.check_time()?;
        Ok(token)
    }

    /// The token that a join brings, else the socket's own. API keys count for nothing here.
    ///
    /// # Errors
    /// Those of [`Token::verify`].
    pub fn of_join(keys: &Keys, payload: &Value, own: &Self) -> Result<Self, TokenError> {
        let said = |name: &str| payload.get(name).and_then(Value::as_str);
        let (access, user) = (said("access_token"), said("user_token"));
        match user.or(access) {
            Some(text) if !access.or(user).is_some_and(|first| first.starts_with("sb_")) => Self::verify(keys, text),
            _ => own.check_time().map(|()| own.clone()),
        }
    }

    /// Whoever it is of, where that is one person: a key is everybody's.
    pub fn writer(&self, answers: &Arc<Answers>) -> Option<Arc<Writer>> {
        self.identity.claims.subject().map(|_| answers.writer(self.digest))
    }

    /// Whether this is the same token.
    pub fn is(&self, text: &str) -> bool {
        self.digest == *Sha256::digest(text)
    }

    /// Whether it still holds.
    ///
    /// # Errors
    /// [`TokenError::Expired`].
    pub fn check_time(&self) -> Result<(), TokenError> {
        let over = now() - self.expiry;
        if over >= 0 {
            Err(TokenError::Expired(over))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_needs_a_signature_a_role_and_a_future() {
        let keys = Keys::development();
        let verify =
            |claims| Token::verify(&keys, &keys.sign(&claims).unwrap()).map(|token| token.identity.role.clone());
        assert_eq!(verify(json!({ "role": "anon", "exp": now() + 60 })), Ok("anon".into()));
        assert_eq!(
            verify(json!({ "role": "anon", "exp": now() - 60 })),
            Err(TokenError::Expired(60))
        );
        assert_eq!(verify(json!({ "role": "anon" })), Err(TokenError::Fields));
        assert_eq!(verify(json!({ "exp": now() + 60 })), Err(TokenError::Fields));
        assert_eq!(Token::verify(&keys, "").unwrap_err(), TokenError::Malformed);
        let key = Token::verify(&keys, keys.secret.expose()).unwrap();
        assert_eq!(key.identity.role, "service_role");
    }
}
