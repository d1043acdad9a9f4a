//! What a client of the PKCE flow sends along so that only it can redeem a code.

use serde::Deserialize;

use super::{
    error::{Error, Result},
    request::non_empty,
};

/// A client's challenge, if the request has one.
#[derive(Debug, Deserialize)]
pub struct Challenge {
    #[serde(default, deserialize_with = "non_empty")]
    code_challenge: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    code_challenge_method: Option<String>,
}

impl Challenge {
    /// Checks that the challenge is whole, or absent.
    ///
    /// # Errors
    /// When half of it is missing, or it has not the form that RFC 7636 demands.
    pub fn check(&self) -> Result<()> {
        let (challenge, method) = match (&self.code_challenge, &self.code_challenge_method) {
            (None, None) => return Ok(()),
            (Some(challenge), Some(method)) => (challenge, method),
            _ => {
                let message = "PKCE flow requires code_challenge_method and code_challenge";
                return Err(Error::validation(message));
            }
        };
        if !(43..=128).contains(&challenge.len()) {
            return Err(Error::validation(
                "code challenge has to be between 43 and 128 characters",
            ));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if !challenge.bytes().all(allowed) {
            let message = "code challenge can only contain alphanumeric characters, hyphens, periods, underscores and \
                           tildes";
            return Err(Error::validation(message));
        }
        if !["s256", "plain"].contains(&method.to_ascii_lowercase().as_str()) {
            return Err(Error::validation("unsupported code_challenge method"));
        }
        Ok(())
    }
}
