//! How the service behaves: settings under PostgREST's names.
//!
//! - [`table`]: every setting by its name, and how its text is read
//! - [`claim`]: where in a token the role is

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

pub use self::{
    claim::ClaimPath,
    table::{Scope, Setting, TABLE},
};
use super::catalog::Name;
use crate::{config::Secret, gateway::verifier::Verifier};

mod claim;
mod table;

/// How the service behaves. Each of these can be set on the login role as well, unless it is needed to reach the
/// database (`alter role authenticator set pgrst.db_max_rows = '500'`, then `notify pgrst, 'reload config'`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// The schemas that are served; the first is the default.
    pub db_schemas: Vec<String>,
    /// Where else unqualified names are looked for.
    pub db_extra_search_path: Vec<String>,
    /// Whether filters may mean an embed by its target's name though it has an alias.
    pub url_use_legacy_target_names: bool,
    /// How much clients hear of what went wrong.
    pub client_error_verbosity: Verbosity,
    /// The role of callers without a token.
    pub db_anon_role: Option<String>,
    /// How many rows an answer has at most.
    pub db_max_rows: Option<u32>,
    /// A function called before each request's statement.
    pub db_pre_request: Option<Name>,
    /// A function that answers `GET /` instead of the description of the API.
    pub db_root_spec: Option<Name>,
    /// Which settings of a function are made for the whole of its transaction.
    pub db_hoisted_tx_settings: Vec<String>,
    /// Whether clients may aggregate.
    pub db_aggregates_enabled: bool,
    /// Whether clients may see plans.
    pub db_plan_enabled: bool,
    /// How transactions end.
    pub db_tx_end: TxEnd,
    /// Whether the login role's own settings count.
    pub db_config: bool,
    /// A function that makes settings when they are read.
    pub db_pre_config: Option<Name>,
    /// The channel that tells of changes; none is listened to if there is none.
    pub db_channel: Option<String>,
    /// Whether statements stay prepared in their sessions.
    pub db_prepared_statements: bool,
    /// Sessions at most.
    pub db_pool: usize,
    /// How long a request waits for a session.
    pub db_pool_acquisition_timeout: Duration,
    /// What tokens are verified with, as PostgREST writes it; where there is none, with the deployment's own keys,
    /// if it has any.
    pub jwt_secret: Option<Secret>,
    /// Whether that is base64.
    pub jwt_secret_is_base64: bool,
    /// How many verified tokens are remembered.
    pub jwt_cache_max_entries: usize,
    /// The audience a token must be for, if it names one.
    pub jwt_aud: Option<String>,
    /// Where in a token the role is.
    pub jwt_role_claim_key: ClaimPath,
    /// What the description of the API shows.
    pub openapi_mode: OpenApiMode,
    /// Whether it tells of tokens.
    pub openapi_security_active: bool,
    /// The address it tells, where a proxy stands before us.
    pub openapi_server_proxy_uri: Option<String>,
    /// Origins that may call with credentials; any may without, if none are named.
    pub server_cors_allowed_origins: Option<Vec<String>>,
    /// The request header that answers repeat.
    pub server_trace_header: Option<String>,
    /// Whether answers say what took how long.
    pub server_timing_enabled: bool,
    /// Settings passed on to every transaction: `app.settings.*`.
    pub app_settings: BTreeMap<String, String>,
    /// Names with a dot that stand for relations of ours in select lists, where PostgREST has a syntax error:
    /// `auth.users` is the view of users that the API may show.
    pub aliases: HashMap<String, Name>,
    /// Bytes of a request's body at most.
    pub max_body: usize,
}

/// How transactions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxEnd {
    /// By taking everything back.
    pub rollback: bool,
    /// Unless the client says otherwise.
    pub allow_override: bool,
}

/// What the description of the API shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenApiMode {
    /// What the caller may use.
    FollowPrivileges,
    /// Everything.
    IgnorePrivileges,
    /// Nothing.
    Disabled,
}

/// How much clients hear of what went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// All there is to say.
    Verbose,
    /// Code and message.
    Minimal,
}

impl Default for Settings {
    /// As Supabase hosts it.
    fn default() -> Self {
        Self {
            db_schemas: list(&["public", "graphql_public"]),
            db_extra_search_path: list(&["public", "extensions"]),
            db_anon_role: Some("anon".to_owned()),
            db_max_rows: Some(1_000),
            db_pool: 8,
            aliases: HashMap::from([("auth.users".to_owned(), Name::new("public", "chat_users"))]),
            ..Self::postgrest()
        }
    }
}

impl Settings {
    /// PostgREST's own defaults.
    pub fn postgrest() -> Self {
        Self {
            db_schemas: list(&["public"]),
            db_extra_search_path: list(&["public"]),
            url_use_legacy_target_names: true,
            client_error_verbosity: Verbosity::Verbose,
            db_anon_role: None,
            db_max_rows: None,
            db_pre_request: None,
            db_root_spec: None,
            db_hoisted_tx_settings: list(&[
                "statement_timeout",
                "plan_filter.statement_cost_limit",
                "default_transaction_isolation",
            ]),
            db_aggregates_enabled: false,
            db_plan_enabled: false,
            db_tx_end: TxEnd {
                rollback: false,
                allow_override: false,
            },
            db_config: true,
            db_pre_config: None,
            db_channel: Some("pgrst".to_owned()),
            db_prepared_statements: true,
            db_pool: 10,
            db_pool_acquisition_timeout: Duration::from_secs(10),
            jwt_secret: None,
            jwt_secret_is_base64: false,
            jwt_cache_max_entries: 1_000,
            jwt_aud: None,
            jwt_role_claim_key: ClaimPath::default(),
            openapi_mode: OpenApiMode::FollowPrivileges,
            openapi_security_active: false,
            openapi_server_proxy_uri: None,
            server_cors_allowed_origins: None,
            server_trace_header: None,
            server_timing_enabled: false,
            app_settings: BTreeMap::new(),
            aliases: HashMap::new(),
            max_body: 16 << 20,
        }
    }

    /// Makes one setting by its name.
    ///
    /// # Errors
    /// Why the value makes no sense.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        if let Some(name) = name
            .strip_prefix("app.settings.")
            .or(name.strip_prefix("app_settings_"))
        {
            self.app_settings.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        let setting = TABLE.iter().find(|setting| setting.is_named(name));
        setting.ok_or("is unknown")?.set(self, value)
    }

    /// These settings with those of the login role laid over them; a value that makes no sense changes nothing.
    #[must_use]
    pub fn overridden(&self, overrides: &BTreeMap<String, String>) -> Self {
        let mut settings = self.clone();
        for (name, value) in overrides {
            let at_start = TABLE
                .iter()
                .any(|setting| setting.is_named(name) && setting.scope == Scope::Start);
            let made = if at_start {
                Err("cannot be changed after the start")
            } else {
                settings.set(name, value)
            };
            if let Err(reason) = made {
                tracing::warn!(setting = name, "a pgrst setting of the login role {reason}");
            }
        }
        settings
    }

    /// What verifies tokens, if these settings say.
    ///
    /// # Errors
    /// When the secret cannot be used.
    pub fn verifier(&self) -> Result<Option<Arc<Verifier>>, &'static str> {
        let Some(secret) = &self.jwt_secret else {
            return Ok(None);
        };
        let verifier = if self.jwt_secret_is_base64 {
            Verifier::parse(&from_base64(secret.expose()).ok_or("is no base64")?)
        } else {
            Verifier::parse(secret.expose().as_bytes())
        };
        Ok(Some(Arc::new(verifier?.remembering(self.jwt_cache_max_entries))))
    }
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Base64 in either alphabet, with dots for padding allowed.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let usual: String = text
        .trim()
        .chars()
        .map(|c| match c {
            '_' => '/',
            '-' => '+',
            '.' => '=',
            c => c,
        })
        .collect();
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&STANDARD, config).decode(usual).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(overrides: &[(&str, &str)]) -> Settings {
        let overrides = overrides
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::default().overridden(&overrides.collect())
    }

    #[test]
    fn the_login_roles_settings_lie_over_ours() {
        let set = settings(&[
            ("db_schemas", " public , api,"),
            ("max_rows", "500"),
            ("db_pre_request", "hooks.check"),
            ("db_root_spec", "root"),
            ("db_anon_role", ""),
            ("db_tx_end", "rollback-allow-override"),
            ("jwt_aud", "portal"),
            ("app.settings.colour", "blue"),
        ]);
        assert_eq!(set.db_schemas, ["public", "api"]);
        assert_eq!(set.db_max_rows, Some(500));
        assert_eq!(set.db_pre_request, Some(Name::new("hooks", "check")));
        assert_eq!(set.db_root_spec, Some(Name::new("", "root")));
        assert_eq!(set.db_anon_role, None, "an empty role lets no stranger in");
        assert!(set.db_tx_end.rollback && set.db_tx_end.allow_override);
        assert_eq!(set.jwt_aud.as_deref(), Some("portal"));
        assert_eq!(set.app_settings["colour"], "blue");
        assert_eq!(settings(&[("db_max_rows", "")]).db_max_rows, None, "empty is no limit");
        for (word, on) in [("true", true), ("YES", true), ("off", false), ("0", false)] {
            assert_eq!(settings(&[("db_plan_enabled", word)]).db_plan_enabled, on, "{word}");
        }
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        let usual = format!("{:?}", Settings::default());
        for (name, value) in [
            ("db_max_rows", "many"),
            ("db_plan_enabled", "perhaps"),
            ("db_aggregates_enabled", ""),
            ("db_tx_end", "never"),
            ("openapi_mode", "open"),
            ("jwt_role_claim_key", "role"),
            ("db_schemas", "pg_catalog"),
            ("db_pool", "3"),
            ("server_port", "1"),
        ] {
            assert_eq!(format!("{:?}", settings(&[(name, value)])), usual, "{name}={value}");
        }
    }

    #[test]
    fn a_secret_is_text_or_base64_and_long_enough() {
        let verifier = |secret: &str, is_base64| {
            let mut settings = Settings::postgrest();
            settings.set("jwt_secret", secret).unwrap();
            settings.jwt_secret_is_base64 = is_base64;
            settings.verifier().map(|verifier| verifier.is_some())
        };
        assert_eq!(verifier("thirty-two bytes are needed here", false), Ok(true));
        assert_eq!(
            verifier("thirty-one bytes are not enough", false),
            Err("is shorter than 32 bytes")
        );
        assert_eq!(verifier("c2l4dGVlbiBieXRlcyBhbmQgc2l4dGVlbiBieXRlcyE", true), Ok(true));
        assert_eq!(verifier("c2l4dGVlbiBieXRlcyBhbmQgc2l4dGVlbiBieXRlcyE.", true), Ok(true));
        assert_eq!(verifier("not base64 at all, whatever it is", true), Err("is no base64"));
        assert_eq!(verifier("", false), Ok(false), "an empty one is none");
    }
}
