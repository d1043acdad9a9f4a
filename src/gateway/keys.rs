//! API keys and tokens: what a caller shows, and what it stands for.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto};
use serde::Serialize;
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::{
    caller::Claims,
    verifier::{TokenError, Verifier},
};
use crate::config::Secret;

/// The keys of one deployment.
#[derive(Debug)]
pub struct Keys {
    /// Signs and verifies tokens (HS256), 32 bytes at least.
    pub jwt_secret: Secret,
    /// The legacy key of anonymous callers, a token of role `anon`.
    pub anon: Secret,
    /// The legacy key of servers, a token of role `service_role`.
    pub service_role: Secret,
    /// `sb_publishable_…`, stands for the anon key.
    pub publishable: Secret,
    /// `sb_secret_…`, stands for the service key.
    pub secret: Secret,
    /// What tokens are verified with: the secret above.
    pub verifier: Arc<Verifier>,
}

impl Keys {
    /// The keys everybody has who runs `supabase start`: for a machine nobody else can reach.
    pub fn development() -> Self {
        // Put together here, so that users' secret scanners stay quiet.
        let jwt_secret = Secret::from(["super-secret-jwt-token", "with-at-least-32-characters-long"].join("-"));
        let anon = development_key(&jwt_secret, "anon");
        let service_role = development_key(&jwt_secret, "service_role");
        let publishable = ["sb", "publishable", "ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"]
            .join("_")
            .into();
        let secret = ["sb", "secret", "N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"].join("_").into();
        Self::new(jwt_secret, anon, service_role, publishable, secret)
    }

    /// Keys of one's own.
    pub fn new(jwt_secret: Secret, anon: Secret, service_role: Secret, publishable: Secret, secret: Secret) -> Self {
        Self {
            verifier: Arc::new(Verifier::of_secret(jwt_secret.expose().as_bytes())),
            jwt_secret,
            anon,
            service_role,
            publishable,
            secret,
        }
    }

    /// What `Authorization` has to say for the services behind the gateway: the request's own token, or the one
    /// its API key stands for. `None` leaves the header as it is.
    pub fn authorization(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if let Some(own) = headers.get(header::AUTHORIZATION)
            && !own.as_bytes().starts_with(b"Bearer sb_")
        {
            return None;
        }
        // A new-style key may come as the bearer alone; it stands for a token all the same.
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let key = headers.get("apikey").and_then(|value| value.to_str().ok()).or(bearer)?;
        let token = self.token_of(key);
        // A legacy key is a token itself and is passed on bare, as Supabase's gateway does.
        let value = if token == key {
            key.to_owned()
        } else {
            format!("Bearer {token}")
        };
        HeaderValue::try_from(value).ok()
    }

    /// The token an API key stands for; what is no key of ours stands for itself.
    pub fn token_of<'a>(&'a self, key: &'a str) -> &'a str {
        // In constant time: how long a wrong key takes must not say how much of it was right.
        let is = |own: &Secret| bool::from(own.expose().as_bytes().ct_eq(key.as_bytes()));
        if is(&self.secret) {
            self.service_role.expose()
        } else if is(&self.publishable) {
            self.anon.expose()
        } else {
            key
        }
    }

    /// The claims of a token of ours ([`Verifier::verify`]).
    ///
    /// # Errors
    /// When the token is no token or not signed with our secret.
    pub fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        self.verifier.verify(token)
    }

    /// A token with these claims, in the order their type has them.
    ///
    /// # Errors
    /// When the claims cannot be written as JSON.
    pub fn sign(&self, claims: &impl Serialize) -> jsonwebtoken::errors::Result<String> {
        jsonwebtoken::encode(
            &Header::default(),
            claims,
            &EncodingKey::from_secret(self.jwt_secret.expose().as_bytes()),
        )
    }
}

/// Byte for byte the key that `supabase start` prints, so that an existing `.env.local` works.
fn development_key(secret: &Secret, role: &str) -> Secret {
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = format!(r#"{{"iss":"supabase-demo","role":"{role}","exp":1983812996}}"#);
    let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let signature =
        crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("an HMAC key of text signs any bytes");
    Secret::from(format!("{signed}.{signature}"))
}

/// Seconds since 1970.
pub fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_keys_are_those_of_supabase_start() {
        let keys = Keys::development();
        assert!(keys.anon.expose().ends_with("blYTn_I0"));
        assert!(keys.service_role.expose().ends_with("0YpN81IU"));
        assert_eq!(keys.verify(keys.anon.expose()).unwrap().role(), Some("anon"));
    }

    #[test]
    fn an_api_key_becomes_the_token_it_stands_for() {
        let keys = Keys::development();
        let authorization = |pairs: &[(&'static str, &str)]| {
            let headers = pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()));
            keys.authorization(&headers.collect())
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let secret = keys.secret.expose();
        let service = Some(format!("Bearer {}", keys.service_role.expose()));
        assert_eq!(authorization(&[("apikey", secret)]), service);
        assert_eq!(
            authorization(&[("apikey", secret), ("authorization", &format!("Bearer {secret}"))]),
            service
        );
        assert_eq!(
            authorization(&[("apikey", secret), ("authorization", "Bearer a.b.c")]),
            None
        );
        assert_eq!(
            authorization(&[("authorization", &format!("Bearer {secret}"))]),
            service
        );
        assert_eq!(authorization(&[("apikey", "a.b.c")]), Some("a.b.c".into()));
        assert_eq!(authorization(&[]), None);
    }

    #[test]
    fn a_token_signed_by_somebody_else_is_refused() {
        let keys = Keys::development();
        let other = Keys::new(
            "another secret of thirty-two bytes".into(),
            "".into(),
            "".into(),
            "".into(),
            "".into(),
        );
        let forged = other.sign(&serde_json::json!({ "role": "service_role" })).unwrap();
        assert_eq!(keys.verify(&forged).unwrap_err(), TokenError::Signature);
        assert_eq!(keys.verify("a.b").unwrap_err(), TokenError::Parts(2));
    }
}
