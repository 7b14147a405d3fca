//! Tests of the checks of the command `finetune` on its options.

use super::*;
use crate::modality::Modality;
use crate::train::refused::exit_code;

#[test]
fn options_that_do_not_go_together_are_refused_with_exit_code_2() {
    let recipe = |name: &str| crate::testing::project(&format!("config/train/{name}.toml"));
    let plain = || FinetuneArgs {
        recipe: recipe("default"),
        only: Target::All,
        store: vec![],
        from: None,
        run: None,
        modalities: vec![],
    };
    let refused = |args: FinetuneArgs| {
        let error = run(&args).unwrap_err();
        assert_eq!(exit_code(&error), 2, "{error}");
        error.to_string()
    };
    let somewhere = || Some(PathBuf::from("/there/is/no/such/run"));
    assert!(
        refused(FinetuneArgs {
            run: somewhere(),
            ..plain()
        })
        .contains("--run and --from go with --store")
    );
    assert!(
        refused(FinetuneArgs {
            from: somewhere(),
            ..plain()
        })
        .contains("--run and --from go with --store")
    );
    assert!(
        refused(FinetuneArgs {
            recipe: recipe("linear"),
            ..plain()
        })
        .contains("--store is needed")
    );

    let stores = || FinetuneArgs {
        recipe: recipe("linear"),
        store: vec!["/there/is/no/such/store".into()],
        run: somewhere(),
        ..plain()
    };
    let error = refused(FinetuneArgs {
        from: somewhere(),
        modalities: vec![Modality::Face],
        ..stores()
    });
    assert!(
        error.contains("--modalities is for runs without --from"),
        "{error}"
    );
    assert!(
        refused(FinetuneArgs {
            modalities: vec![Modality::Face; 2],
            ..stores()
        })
        .contains("modalities names face twice")
    );
    assert!(
        refused(FinetuneArgs {
            run: None,
            ..stores()
        })
        .contains("--run DIR is needed")
    );
    assert_eq!(exit_code(&run(&stores()).unwrap_err()), 3);
}
