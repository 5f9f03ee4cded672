"""What a trained head predicts for stored clips and for video files, and how good that is."""
