//! Exit codes of `expressd-train`, which distinguish errors that the caller can correct from
//! failures while running.

use std::error::Error;
use std::io::ErrorKind;

use crate::model::BundleError;
use crate::train::data::DataError;
use crate::train::device::DeviceError;
use crate::train::store::StoreError;

/// Invalid arguments, or an invalid recipe. The text is the whole error message: it names the key
/// or option and its permitted values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// The exit code for an error. 2: wrong arguments or recipe; 3: a file does not exist; 4: a bundle
/// is refused; 1: any other error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let code = |cause: &(dyn Error + 'static)| match cause.downcast_ref::<DataError>() {
        Some(DataError::Missing { .. }) => Some(3),
        Some(DataError::Unknown { .. } | DataError::Refused { .. }) => Some(2),
        _ if matches!(
            cause.downcast_ref::<StoreError>(),
            Some(StoreError::Different { .. } | StoreError::Changed { .. })
        ) =>
        {
            Some(2)
        }
        _ if cause.is::<Refused>() || cause.is::<DeviceError>() => Some(2),
        _ => cause
            .downcast_ref::<std::io::Error>()
            .filter(|disk| disk.kind() == ErrorKind::NotFound)
            .map(|_| 3),
    };
    let otherwise = if error.chain().any(|cause| cause.is::<BundleError>()) {
        4
    } else {
        1
    };
    error.chain().find_map(code).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use anyhow::Context;

    use super::*;
    use crate::train::features::Features;
    use crate::train::pretrain::PretrainRecipe;

    #[test]
    fn exit_codes_are_2_for_refusals_3_for_missing_files_and_4_for_bundles() {
        let nowhere = Path::new("/there/is/no/such/folder");
        let list = crate::train::data::list("caer", nowhere, &Default::default())
            .map(|_| ())
            .unwrap_err();
        assert_eq!(exit_code(&list.into()), 3);
        assert_eq!(
            exit_code(&PretrainRecipe::read(&nowhere.join("recipe.toml")).unwrap_err()),
            3
        );
        assert_eq!(
            exit_code(&Features::open(&[nowhere.to_owned()]).unwrap_err()),
            3
        );
        assert_eq!(
            exit_code(&DeviceError::NotBuilt("torch", "train-torch").into()),
            2
        );
        assert_eq!(
            exit_code(
                &StoreError::Different {
                    path: nowhere.to_owned(),
                    what: "its views".into()
                }
                .into()
            ),
            2
        );
        let refused: anyhow::Result<()> = Err(Refused("batch is 0".into()).into());
        assert_eq!(exit_code(&refused.context("recipe.toml").unwrap_err()), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("the disk is full")), 1);
        let bundle = BundleError::Unsupported {
            directory: nowhere.to_owned(),
            what: "it has no head".into(),
        };
        assert_eq!(exit_code(&bundle.into()), 4);
    }
}
