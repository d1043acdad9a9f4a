//! Passwords: which are accepted, and how they are hashed and compared.

use std::sync::Arc;

use anyhow::Context as _;
use bcrypt::Version;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::error::{Error, Result};

/// bcrypt reads no further; in bytes.
const MAX_LENGTH: usize = 72;

/// Hashes and compares passwords, no more at once than there are processors: the work is all theirs, and requests
/// that need none of it stay quick.
#[derive(Debug)]
pub struct Passwords {
    permits: Semaphore,
    /// Compared with where there is no hash, so that the time taken does not tell who has an account.
    decoy: Arc<str>,
}

impl Passwords {
    /// Ready to hash; takes as long as one hash.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub async fn new() -> anyhow::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, Into::into);
        let decoy = spawn_blocking(|| hash(&random())).await?.context("hash a password")?;
        Ok(Self {
            permits: Semaphore::new(processors),
            decoy: decoy.into(),
        })
    }

    /// The hash to keep of a password.
    ///
    /// # Errors
    /// When the password is longer than bcrypt reads, or has a NUL in it.
    pub async fn hash(&self, password: String) -> Result<String> {
        if password.len() > MAX_LENGTH {
            return Err(Error::validation("Password cannot be longer than 72 characters"));
        }
        if password.contains('\0') {
            return Err(Error::validation("Password cannot contain a NUL character"));
        }
        let hashed = self.run(move || hash(&password)).await?;
        hashed.map_err(Error::unexpected)
    }

    /// Whether a password is the one a hash was made of; takes as long without a hash.
    ///
    /// # Errors
    /// When the task that compares is cancelled.
    pub async fn matches(&self, password: String, hash: Option<String>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.map_or_else(|| Arc::clone(&self.decoy), Into::into);
        // A hash of another kind, as an import may bring, matches nothing.
        let equal = self
            .run(move || bcrypt::verify(password.as_bytes(), &hash).unwrap_or(false) && password.len() <= MAX_LENGTH)
            .await?;
        Ok(known && equal)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        spawn_blocking(work).await.map_err(Error::unexpected)
    }
}

/// Checks a new password against the rules.
///
/// # Errors
/// When it is shorter than `min_length` characters.
pub fn check(password: &str, min_length: usize) -> Result<()> {
    if password.chars().count() < min_length {
        return Err(Error::WeakPassword {
            message: format!("Password should be at least {min_length} characters."),
            reasons: vec!["length"],
        });
    }
    Ok(())
}

/// Whether a text is a hash that [`Passwords::matches`] can compare with.
pub fn is_hash(text: &str) -> bool {
    text.parse::<bcrypt::HashParts>().is_ok()
}

/// A password nobody knows, for a user who is to have none yet.
pub fn random() -> String {
    (0..64).map(|_| rand::random_range('!'..='~')).collect()
}

/// `$2a$`, not the crate's `$2b$`: the kind that Supabase writes.
fn hash(password: &str) -> bcrypt::BcryptResult<String> {
    const COST: u32 = 10;
    Ok(bcrypt::hash_with_result(password.as_bytes(), COST)?.format_for_version(Version::TwoA))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let passwords = Passwords::new().await.unwrap();
        let longest = "x".repeat(MAX_LENGTH);
        let hash = passwords.hash(longest.clone()).await.unwrap();
        assert!(hash.starts_with("$2a$10$"));
        assert!(passwords.matches(longest.clone(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.matches("wrong".into(), Some(hash.clone())).await.unwrap());
        // bcrypt itself would not see the difference
        assert!(!passwords.matches(format!("{longest}y"), Some(hash)).await.unwrap());
        assert!(!passwords.matches("any".into(), None).await.unwrap());
        assert!(
            !passwords
                .matches("any".into(), Some("$argon2id$...".into()))
                .await
                .unwrap()
        );
        assert!(passwords.hash("x".repeat(MAX_LENGTH + 1)).await.is_err());
        assert!(passwords.hash("with\0nul".into()).await.is_err());
    }

    #[tokio::test]
    async fn hashes_made_by_others_match() {
        let passwords = Passwords::new().await.unwrap();
        // pgcrypto's crypt('secret', gen_salt('bf'))
        let seeded = bcrypt::hash_with_result("secret", 6)
            .unwrap()
            .format_for_version(Version::TwoA);
        let other = bcrypt::hash_with_result("secret", 4)
            .unwrap()
            .format_for_version(Version::TwoB);
        for hash in [seeded, other] {
            assert!(is_hash(&hash));
            assert!(passwords.matches("secret".into(), Some(hash)).await.unwrap());
        }
        assert!(!is_hash("secret"));
    }

    #[test]
    fn a_short_password_is_weak() {
        assert!(check("12345", 6).is_err());
        assert!(check("123456", 6).is_ok());
    }
}
