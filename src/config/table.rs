//! Keys of the configuration, and the macro that makes the table and the checked structure from one
//! list.

/// A key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// `section.name`.
    pub name: &'static str,
    /// The default value, as TOML.
    pub default: &'static str,
    /// The permitted values.
    pub range: Range,
    /// When a change of the value can take effect.
    pub reload: Reload,
    /// Whether the value may hold a password. It is then never shown or logged.
    pub secret: bool,
    /// The meaning of the value: lines of whole sentences, as in `config/expressd.toml`.
    pub description: &'static str,
}

impl Key {
    /// The section and the name in it.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.name.split_once('.').expect("keys are section.name")
    }

    /// The permitted values as text.
    pub fn permitted(&self) -> String {
        self.range.to_string()
    }
}

/// When a changed value can take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reload {
    /// While a session runs.
    Hot,
    /// With a new session, which builds stages or sources again.
    Session,
    /// With a new process.
    Restart,
}

/// The permitted values of a key.
#[derive(Debug)]
pub enum Range {
    Integer {
        min: i64,
        max: i64,
    },
    /// An integer, or zero, which has a meaning of its own.
    ZeroOr {
        zero: &'static str,
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    OneOf(&'static [&'static str]),
    /// A text that `fits`.
    Text {
        permitted: &'static str,
        fits: fn(&str) -> bool,
    },
    /// A list of texts, each of which is not empty and `fits`.
    List {
        permitted: &'static str,
        fits: fn(&str) -> bool,
    },
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Range::Integer { min, max } => write!(f, "{min} to {max}"),
            Range::ZeroOr { zero, min, max } => write!(f, "0 ({zero}) or {min} to {max}"),
            Range::Number { min, max } => write!(f, "{min} to {max}"),
            Range::OneOf(names) => {
                let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
                f.write_str(&quoted.join(", "))
            }
            Range::Text { permitted, .. } | Range::List { permitted, .. } => f.write_str(permitted),
        }
    }
}

/// Makes `Config`, a structure per section, `KEYS` and `Config::from_settings` from a list of
/// entries:
///
/// ```text
/// /// The description, in whole sentences.
/// field: Type = "section.key", default, range, Reload;
/// ```
///
/// `Type` implements [`FromToml`](super::typed::FromToml); `default` is written as TOML has it. The
/// entries of `Config` itself come first, then the sections. `KEYS` has their order, and
/// `Config::hash` depends on it.
macro_rules! keys {
    (
        $(#[$config_doc:meta])*
        Config { $(
            $(#[doc = $top_line:literal])+
            $top:ident: $top_type:ty = $top_name:literal, $top_default:expr, $top_range:expr,
                $top_reload:ident;
        )* }
        $(
            $(#[$section_doc:meta])*
            $section:ident: $Section:ident { $(
                $(#[doc = $line:literal])+
                $field:ident: $type:ty = $name:literal, $default:expr, $range:expr, $reload:ident;
            )* }
        )*
    ) => {
        $(#[$config_doc])*
        /// The checked configuration.
        #[derive(Clone, Debug)]
        pub struct Config {
            $( $(#[doc = $top_line])+ pub $top: $top_type, )*
            $( $(#[$section_doc])* pub $section: $Section, )*
            settings: Vec<Setting>,
        }

        $(
            $(#[$section_doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section { $( $(#[doc = $line])+ pub $field: $type, )* }
        )*

        /// Every key, in the order of `config/expressd.toml`.
        pub const KEYS: &[Key] = &[
            $( keys!(
                @key $top_type, $top_name, $top_default, $top_range, $top_reload, $($top_line)+
            ), )*
            $( $( keys!(@key $type, $name, $default, $range, $reload, $($line)+), )* )*
        ];

        impl Config {
            /// `settings` are complete and checked.
            pub(super) fn from_settings(settings: Vec<Setting>) -> Config {
                Config {
                    $( $top: typed(&settings, $top_name), )*
                    $( $section: $Section { $( $field: typed(&settings, $name), )* }, )*
                    settings,
                }
            }

            /// Every effective value with its origin, in the order of [`KEYS`].
            pub fn settings(&self) -> &[Setting] {
                &self.settings
            }
        }
    };
    (
        @key $type:ty, $name:literal, $default:expr, $range:expr, $reload:ident, $($line:literal)+
    ) => {
        Key {
            name: $name,
            default: stringify!($default),
            range: $range,
            reload: Reload::$reload,
            secret: <$type as FromToml>::SECRET,
            description: concat!($($line, "\n"),+),
        }
    };
}
pub(super) use keys;
