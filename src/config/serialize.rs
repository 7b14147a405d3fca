//! Serialisation of a setting together with the reload class of its key.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::{KEYS, Setting};

/// An object with the fields `key`, `value` (passwords replaced by `***`), `origin`, `reload` and
/// `secret`.
impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = KEYS.iter().find(|key| key.name == self.key);
        let mut fields = serializer.serialize_struct("Setting", 5)?;
        fields.serialize_field("key", self.key)?;
        fields.serialize_field("value", &self.redacted())?;
        fields.serialize_field("origin", &self.origin)?;
        fields.serialize_field("reload", &key.map(|key| key.reload))?;
        fields.serialize_field("secret", &key.is_some_and(|key| key.secret))?;
        fields.end()
    }
}
