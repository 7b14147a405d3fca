//! Parity of the reference's audio encoder, ResDAVEnet.

use burn::tensor::{Device, Tensor};

use super::fixture::{array, each_case, reference};
use super::places::NamedParameters;
use crate::train::davenet::{Davenet, DavenetShape};

#[test]
fn davenet_outputs_equal_the_authors_outputs() {
    let device = Device::flex();
    each_case("davenet.json", |case, comparison| {
        let (params, expected, config) = (&case["params"], reference(case), &case["config"]);
        let shape = DavenetShape {
            kernel_rows: array(&params["conv1.weight"]).shape[2],
            blocks: array(&config["layers"]).indices(),
            widths: array(&config["layer_widths"]).indices(),
            kernel_columns: array(&config["convsize"]).indices()[0],
        };
        let mut net = Davenet::new(&shape, &device);
        let mut parameters = NamedParameters::default();
        parameters.convolution("conv1", &mut net.stem.conv);
        parameters.norm("bn1", &mut net.stem.norm);
        for (stage, blocks) in net.stages.iter_mut().enumerate() {
            for (i, block) in blocks.iter_mut().enumerate() {
                let prefix = format!("layer{}.{i}", stage + 1);
                parameters.convolution(&format!("{prefix}.conv1"), &mut block.first.conv);
                parameters.norm(&format!("{prefix}.bn1"), &mut block.first.norm);
                parameters.convolution(&format!("{prefix}.conv2"), &mut block.second.conv);
                parameters.norm(&format!("{prefix}.bn2"), &mut block.second.norm);
                if let Some(shortcut) = &mut block.shortcut {
                    parameters.convolution(&format!("{prefix}.downsample.0"), &mut shortcut.conv);
                    parameters.norm(&format!("{prefix}.downsample.1"), &mut shortcut.norm);
                }
            }
        }
        parameters.load(params, &device);
        let spectrogram: Tensor<3> = array(&case["inputs"]["spectrogram"]).tensor(&device);
        let map = net.forward(spectrogram);
        // The authors remove the axis of rows if one row is left.
        let [batch, channels, rows, columns] = map.dims();
        let pooled = Davenet::pool(map.clone());
        if rows == 1 && array(&expected["feature_map"]).shape.len() == 3 {
            comparison.values(
                "feature map",
                map.reshape([batch, channels, columns]),
                &expected["feature_map"],
            );
        } else {
            comparison.values("feature map", map, &expected["feature_map"]);
        }
        let pooled = pooled.reshape([batch * channels]);
        comparison.values("pooled", pooled, &expected["pooled"]);
    });
}
