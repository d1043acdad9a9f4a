//! Every setting by its name. The command line, the environment and the login role read this table.

use std::time::Duration;

use super::{ClaimPath, OpenApiMode, Settings, TxEnd, Verbosity};
use crate::{config::Secret, gateway::rest::catalog::Name};

/// A setting. `db_max_rows` is `PGRST_DB_MAX_ROWS` in the environment, `--db-max-rows` on the command line and
/// `pgrst.db_max_rows` on the login role.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// What it was called once.
    pub formerly: Option<&'static str>,
    /// Who may make it.
    pub scope: Scope,
    /// What it is, in a line.
    pub about: &'static str,
    set: Setter,
}

type Setter = fn(&mut Settings, &str) -> Result<(), &'static str>;

/// Who may make a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The login role too, at any time.
    Database,
    /// The command line and the environment, for it is needed first.
    Start,
}

impl Setting {
    const fn new(name: &'static str, about: &'static str, set: Setter) -> Self {
        Self {
            name,
            formerly: None,
            scope: Scope::Database,
            about,
            set,
        }
    }

    const fn formerly(mut self, name: &'static str) -> Self {
        self.formerly = Some(name);
        self
    }

    const fn at_start(mut self) -> Self {
        self.scope = Scope::Start;
        self
    }

    /// Whether it has, or had, this name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.formerly == Some(name)
    }

    /// Makes the setting.
    ///
    /// # Errors
    /// Why the value makes no sense.
    pub fn set(&self, settings: &mut Settings, value: &str) -> Result<(), &'static str> {
        (self.set)(settings, value)
    }
}

/// All settings, in the order in which they are shown.
pub const TABLE: &[Setting] = &[
    Setting::new("db_schemas", "Schemas to serve; the first is the default", |s, text| {
        let schemas = list(text);
        if schemas.is_empty() {
            return Err("names no schema");
        }
        if schemas
            .iter()
            .any(|name| name == "pg_catalog" || name == "information_schema")
        {
            return Err("names a schema of Postgres' own");
        }
        s.db_schemas = schemas;
        Ok(())
    })
    .formerly("db_schema"),
    Setting::new(
        "db_extra_search_path",
        "Schemas where unqualified names are looked for besides",
        |s, text| {
            s.db_extra_search_path = list(text);
            Ok(())
        },
    ),
    Setting::new("db_anon_role", "Role of callers without a token", |s, text| {
        s.db_anon_role = optional(text);
        Ok(())
    }),
    Setting::new("db_max_rows", "Rows of an answer at most", |s, text| {
        s.db_max_rows = optional(text).map(|text| number(&text)).transpose()?;
        Ok(())
    })
    .formerly("max_rows"),
    Setting::new(
        "db_pre_request",
        "Function called before each request's statement",
        |s, text| {
            s.db_pre_request = function(text);
            Ok(())
        },
    )
    .formerly("pre_request"),
    Setting::new(
        "db_root_spec",
        "Function that answers at / instead of the description",
        |s, text| {
            s.db_root_spec = function(text);
            Ok(())
        },
    )
    .formerly("root_spec"),
    Setting::new(
        "db_hoisted_tx_settings",
        "Settings of functions that count for their whole transaction",
        |s, text| {
            s.db_hoisted_tx_settings = list(text);
            Ok(())
        },
    ),
    Setting::new("db_aggregates_enabled", "Let clients aggregate", |s, text| {
        s.db_aggregates_enabled = switch(text)?;
        Ok(())
    }),
    Setting::new("db_plan_enabled", "Let clients see plans", |s, text| {
        s.db_plan_enabled = switch(text)?;
        Ok(())
    }),
    Setting::new(
        "db_tx_end",
        "How transactions end: commit or rollback, with -allow-override",
        |s, text| {
            s.db_tx_end = TxEnd {
                rollback: match text {
                    "commit" | "commit-allow-override" => false,
                    "rollback" | "rollback-allow-override" => true,
                    _ => return Err("is neither commit nor rollback"),
                },
                allow_override: text.ends_with("override"),
            };
            Ok(())
        },
    ),
    Setting::new(
        "db_config",
        "Whether the login role's `pgrst.` settings count",
        |s, text| {
            s.db_config = switch(text)?;
            Ok(())
        },
    )
    .at_start(),
    Setting::new("db_pre_config", "Function that makes `pgrst.` settings", |s, text| {
        s.db_pre_config = function(text);
        Ok(())
    }),
    Setting::new("db_channel", "Channel that tells of changes", |s, text| {
        s.db_channel = optional(text);
        Ok(())
    })
    .at_start(),
    Setting::new("db_channel_enabled", "Whether to listen to it", |s, text| {
        if !switch(text)? {
            s.db_channel = None;
        }
        Ok(())
    })
    .at_start(),
    Setting::new(
        "db_prepared_statements",
        "Whether statements stay prepared; not behind a pooler of transactions",
        |s, text| {
            s.db_prepared_statements = switch(text)?;
            Ok(())
        },
    )
    .at_start(),
    Setting::new("db_pool", "Sessions with the database at most", |s, text| {
        s.db_pool = number(text)?;
        if s.db_pool == 0 {
            return Err("is no session at all");
        }
        Ok(())
    })
    .at_start(),
    Setting::new(
        "db_pool_acquisition_timeout",
        "Seconds a request waits for a session",
        |s, text| {
            s.db_pool_acquisition_timeout = Duration::from_secs(number(text)?);
            Ok(())
        },
    )
    .at_start(),
    Setting::new(
        "jwt_secret",
        "Verifies tokens: a secret, a JSON web key or a set of them",
        |s, text| {
            s.jwt_secret = optional(text).map(Secret::from);
            Ok(())
        },
    ),
    Setting::new("jwt_secret_is_base64", "Whether the secret is base64", |s, text| {
        s.jwt_secret_is_base64 = switch(text)?;
        Ok(())
    })
    .formerly("secret_is_base64"),
    Setting::new("jwt_cache_max_entries", "Verified tokens to remember", |s, text| {
        s.jwt_cache_max_entries = number(text)?;
        Ok(())
    }),
    Setting::new("jwt_aud", "Audience that tokens must be for", |s, text| {
        s.jwt_aud = optional(text);
        Ok(())
    }),
    Setting::new("jwt_role_claim_key", "Where in a token the role is", |s, text| {
        s.jwt_role_claim_key = ClaimPath::parse(text)?;
        Ok(())
    })
    .formerly("role_claim_key"),
    Setting::new(
        "openapi_mode",
        "What is described: follow-privileges, ignore-privileges or disabled",
        |s, text| {
            s.openapi_mode = match text {
                "follow-privileges" => OpenApiMode::FollowPrivileges,
                "ignore-privileges" => OpenApiMode::IgnorePrivileges,
                "disabled" => OpenApiMode::Disabled,
                _ => return Err("is no mode"),
            };
            Ok(())
        },
    ),
    Setting::new(
        "openapi_security_active",
        "Whether the description tells of tokens",
        |s, text| {
            s.openapi_security_active = switch(text)?;
            Ok(())
        },
    ),
    Setting::new(
        "openapi_server_proxy_uri",
        "Address that the description tells",
        |s, text| {
            s.openapi_server_proxy_uri = optional(text);
            Ok(())
        },
    ),
    Setting::new(
        "url_use_legacy_target_names",
        "Whether filters may mean an embed by its target's name though it has an alias",
        |s, text| {
            s.url_use_legacy_target_names = switch(text)?;
            Ok(())
        },
    ),
    Setting::new(
        "client_error_verbosity",
        "What clients hear of errors: verbose or minimal",
        |s, text| {
            s.client_error_verbosity = match text {
                "verbose" => Verbosity::Verbose,
                "minimal" => Verbosity::Minimal,
                _ => return Err("is neither verbose nor minimal"),
            };
            Ok(())
        },
    ),
    Setting::new(
        "server_cors_allowed_origins",
        "Origins that may call with credentials",
        |s, text| {
            s.server_cors_allowed_origins = Some(list(text)).filter(|origins| !origins.is_empty());
            Ok(())
        },
    ),
    Setting::new(
        "server_trace_header",
        "Request header that answers repeat",
        |s, text| {
            s.server_trace_header = optional(text);
            Ok(())
        },
    ),
    Setting::new(
        "server_timing_enabled",
        "Whether answers say what took how long",
        |s, text| {
            s.server_timing_enabled = switch(text)?;
            Ok(())
        },
    ),
];

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn optional(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    text.trim().parse().map_err(|_| "is no number that fits")
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("is neither true nor false"),
    }
}

/// A function's name; without a schema it is found as the search path has it.
fn function(text: &str) -> Option<Name> {
    match text.split_once('.') {
        _ if text.is_empty() => None,
        Some((schema, name)) => Some(Name::new(schema, name)),
        None => Some(Name::new("", text)),
    }
}
