//! Tests of reading and checking recipes.

use super::*;

#[test]
fn the_default_recipe_is_valid_and_misspelt_keys_and_invalid_values_are_refused() {
    let path = crate::testing::project("config/train/default.toml");
    let recipe = Recipe::read(&path).unwrap();
    assert_eq!(recipe.name, "default");
    let folder = tempfile::tempdir().unwrap();
    let misspelt = folder.path().join("recipe.toml");
    std::fs::write(
        &misspelt,
        std::fs::read_to_string(&path)
            .unwrap()
            .replace("seed =", "sead ="),
    )
    .unwrap();
    assert!(format!("{:#}", Recipe::read(&misspelt).unwrap_err()).contains("sead"));
    let endless = folder.path().join("endless.toml");
    std::fs::write(
        &endless,
        std::fs::read_to_string(&path)
            .unwrap()
            .replace("weight_decay =", "weight_decay = -1.0 #"),
    )
    .unwrap();
    let error = Recipe::read(&endless).unwrap_err().to_string();
    assert!(
        error.contains("face.fit.weight_decay is -1, permitted are numbers from 0")
            && error.contains("voice.fit.weight_decay"),
        "{error}"
    );
}

#[test]
fn the_default_recipe_uses_votes_and_face_settings_out_of_range_are_refused() {
    let mut recipe = Recipe::read(&crate::testing::project("config/train/default.toml")).unwrap();
    let votes = recipe.face_votes().unwrap();
    assert_eq!(votes, recipe.material.join("faces/ferplus_votes.csv"));
    recipe.face.votes = None;
    assert_eq!(recipe.face_votes(), None);
    assert!(recipe.faults().is_empty(), "{:?}", recipe.faults());
    (recipe.face.fit.average, recipe.face.mixup) = (Some(1.0), -0.1);
    recipe.face.camera_variation = Some(1.5);
    recipe.face.distillation[0].camera_variation = Some(f64::NAN);
    let faults = recipe.faults().join("; ");
    assert!(
        faults.contains("face.fit.average is 1, permitted are 0 to below 1")
            && faults.contains("face.mixup is -0.1, permitted are numbers from 0")
            && faults.contains("face.camera_variation is 1.5, permitted are 0 to 1")
            && faults.contains("face.distillation.camera_variation is NaN, permitted are 0 to 1"),
        "{faults}"
    );
}

#[test]
fn the_last_distillation_round_must_have_the_shape_of_the_bundle() {
    let mut recipe = Recipe::read(&crate::testing::project("config/train/default.toml")).unwrap();
    let larger = EncoderShape {
        stem: 48,
        ..recipe.face.shape.clone()
    };
    recipe.face.distillation = vec![DistillationRound {
        teacher_weight: 0.5,
        shape: Some(larger),
        camera_variation: None,
        early: None,
        fit: recipe.face.fit.clone(),
    }];
    assert!(
        recipe
            .faults()
            .iter()
            .any(|fault| fault.contains("add a generation that learns from it")),
        "{:?}",
        recipe.faults()
    );
    recipe.face.distillation.push(DistillationRound {
        shape: None,
        ..recipe.face.distillation[0].clone()
    });
    assert!(recipe.faults().is_empty(), "{:?}", recipe.faults());
}

#[test]
fn a_recipe_of_another_command_is_refused_with_the_names_of_both_commands() {
    let recipe = |name: &str| crate::testing::project(&format!("config/train/{name}.toml"));
    let pretrain = |name| {
        crate::train::pretrain::PretrainRecipe::read(&recipe(name))
            .unwrap_err()
            .to_string()
    };
    let finetune = |name| {
        crate::train::classify::FinetuneRecipe::read(&recipe(name))
            .unwrap_err()
            .to_string()
    };
    assert!(
        pretrain("linear")
            .ends_with("is for finetune with --store; here one for pretrain is needed"),
        "{}",
        pretrain("linear")
    );
    assert!(
        pretrain("default").contains("is for finetune without --store"),
        "{}",
        pretrain("default")
    );
    assert!(
        finetune("con").ends_with("is for pretrain; here one for finetune with --store is needed"),
        "{}",
        finetune("con")
    );
    assert!(
        Recipe::read(&recipe("con"))
            .unwrap_err()
            .to_string()
            .contains("is for pretrain")
    );
}
