//! API keys: those of `serve`, and new ones.

use anyhow::ensure;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use serde_json::json;

use super::misuse::Misuse;
use crate::{
    config::Secret,
    gateway::keys::{Keys, now},
};

/// RFC 7518 wants a key as long as the hash, 32 bytes for HS256.
const SHORTEST_SECRET: usize = 32;
/// How long generated API keys are good for: ten years, as Supabase's.
const KEY_LIFETIME_S: i64 = 10 * 365 * 24 * 60 * 60;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a new set of keys as environment lines
    #[command(
        after_help = "Example:\n  (umask 077; switchboard keys generate > .env)\n  set -a; . ./.env; switchboard \
                            serve --listen 0.0.0.0:54321"
    )]
    Generate {
        /// Sign the API keys with this secret instead of a new one
        #[arg(long, env = "SWITCHBOARD_JWT_SECRET", hide_env_values = true)]
        jwt_secret: Option<Secret>,
    },
}

/// The keys of a deployment: all five or none. `switchboard keys generate` makes a set.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keys (default: those of `supabase start`, for this machine alone)")]
pub struct KeyArgs {
    /// Signs and verifies tokens, 32 bytes at least
    #[arg(long, env = "JWT_SECRET", hide_env_values = true)]
    jwt_secret: Option<Secret>,
    /// A token of role `anon`
    #[arg(long, env = "ANON_KEY", hide_env_values = true)]
    anon_key: Option<Secret>,
    /// A token of role `service_role`
    #[arg(long, env = "SERVICE_ROLE_KEY", hide_env_values = true)]
    service_role_key: Option<Secret>,
    /// `sb_publishable_...`, stands for the anon key
    #[arg(long, env = "PUBLISHABLE_KEY", hide_env_values = true)]
    publishable_key: Option<Secret>,
    /// `sb_secret_...`, stands for the service key
    #[arg(long, env = "SECRET_KEY", hide_env_values = true)]
    secret_key: Option<Secret>,
}

impl KeyArgs {
    /// The keys, checked: each does what it is named for.
    ///
    /// # Errors
    /// [`Misuse`] when some are missing or do not fit together.
    pub fn resolve(self) -> anyhow::Result<Keys> {
        let given = [
            ("JWT_SECRET", self.jwt_secret),
            ("ANON_KEY", self.anon_key),
            ("SERVICE_ROLE_KEY", self.service_role_key),
            ("PUBLISHABLE_KEY", self.publishable_key),
            ("SECRET_KEY", self.secret_key),
        ];
        if given.iter().all(|(_, key)| key.is_none()) {
            return Ok(Keys::development());
        }
        let missing: Vec<_> = given
            .iter()
            .filter(|(_, key)| key.is_none())
            .map(|(name, _)| *name)
            .collect();
        let [
            Some(jwt_secret),
            Some(anon),
            Some(service_role),
            Some(publishable),
            Some(secret),
        ] = given.map(|(_, key)| key)
        else {
            return Err(Misuse(format!(
                "some keys are given and {} not: give all five, or none for development; `switchboard keys generate` \
                 makes a set",
                missing.join(", ")
            ))
            .into());
        };
        ensure!(
            jwt_secret.expose().len() >= SHORTEST_SECRET,
            Misuse(format!("JWT_SECRET is shorter than {SHORTEST_SECRET} bytes"))
        );
        for (name, key, prefix) in [
            ("PUBLISHABLE_KEY", &publishable, "sb_publishable_"),
            ("SECRET_KEY", &secret, "sb_secret_"),
        ] {
            let random = key.expose().strip_prefix(prefix).unwrap_or_default();
            ensure!(
                random.len() >= 16,
                Misuse(format!("{name} is not {prefix} and 16 characters or more"))
            );
        }
        let keys = Keys::new(jwt_secret, anon, service_role, publishable, secret);
        for (name, key, role) in [
            ("ANON_KEY", &keys.anon, "anon"),
            ("SERVICE_ROLE_KEY", &keys.service_role, "service_role"),
        ] {
            let claims = keys.verify(key.expose());
            let fits = claims.is_ok_and(|claims| claims.role() == Some(role));
            ensure!(
                fits,
                Misuse(format!("{name} is not a token of role {role} signed with JWT_SECRET"))
            );
        }
        Ok(keys)
    }
}

/// Whether these are the keys everybody knows, or signed with the secret everybody knows.
pub fn are_public(keys: &Keys) -> bool {
    let public = Keys::development();
    keys.jwt_secret == public.jwt_secret || keys.secret == public.secret
}

pub fn run(command: Command) -> anyhow::Result<()> {
    let Command::Generate { jwt_secret } = command;
    for (name, value) in lines(&generate(jwt_secret)?) {
        println!("{name}=\"{value}\"");
    }
    Ok(())
}

/// The keys under the names that `supabase status -o env` gives them, which are those `serve` reads.
pub fn lines(keys: &Keys) -> [(&'static str, &str); 5] {
    [
        ("PUBLISHABLE_KEY", keys.publishable.expose()),
        ("SECRET_KEY", keys.secret.expose()),
        ("JWT_SECRET", keys.jwt_secret.expose()),
        ("ANON_KEY", keys.anon.expose()),
        ("SERVICE_ROLE_KEY", keys.service_role.expose()),
    ]
}

fn generate(jwt_secret: Option<Secret>) -> anyhow::Result<Keys> {
    let jwt_secret = jwt_secret.unwrap_or_else(|| random::<48>().into());
    ensure!(
        jwt_secret.expose().len() >= SHORTEST_SECRET,
        Misuse(format!("the JWT secret is shorter than {SHORTEST_SECRET} bytes"))
    );
    let signer = Keys::new(jwt_secret.clone(), "".into(), "".into(), "".into(), "".into());
    let issued_at = now();
    let token = |role: &str| {
        signer.sign(&json!({ "role": role, "iss": "supabase", "iat": issued_at, "exp": issued_at + KEY_LIFETIME_S }))
    };
    Ok(Keys::new(
        jwt_secret,
        token("anon")?.into(),
        token("service_role")?.into(),
        format!("sb_publishable_{}", random::<24>()).into(),
        format!("sb_secret_{}", random::<24>()).into(),
    ))
}

/// Random bytes of the operating system's quality, in letters that need no quoting anywhere.
fn random<const BYTES: usize>() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; BYTES]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(keys: &Keys) -> KeyArgs {
        KeyArgs {
            jwt_secret: Some(keys.jwt_secret.clone()),
            anon_key: Some(keys.anon.clone()),
            service_role_key: Some(keys.service_role.clone()),
            publishable_key: Some(keys.publishable.clone()),
            secret_key: Some(keys.secret.clone()),
        }
    }

    fn refusal(args: KeyArgs) -> String {
        args.resolve().unwrap_err().downcast::<Misuse>().unwrap().0
    }

    #[test]
    fn generated_keys_are_taken_and_are_not_public() {
        let keys = generate(None).unwrap();
        assert!(!are_public(&args(&keys).resolve().unwrap()));
        assert!(are_public(&Keys::development()));
        assert!(generate(Some("short".into())).is_err());
    }

    #[test]
    fn keys_come_as_a_set_that_fits_together() {
        let (keys, other) = (generate(None).unwrap(), generate(None).unwrap());
        let without = KeyArgs {
            secret_key: None,
            ..args(&keys)
        };
        assert!(refusal(without).contains("SECRET_KEY"));
        let foreign = KeyArgs {
            anon_key: Some(other.anon.clone()),
            ..args(&keys)
        };
        assert!(refusal(foreign).contains("ANON_KEY"));
        let swapped = KeyArgs {
            anon_key: Some(keys.service_role.clone()),
            ..args(&keys)
        };
        assert!(refusal(swapped).contains("ANON_KEY"));
        let empty = KeyArgs {
            secret_key: Some("".into()),
            ..args(&keys)
        };
        assert!(refusal(empty).contains("SECRET_KEY"));
    }
}
