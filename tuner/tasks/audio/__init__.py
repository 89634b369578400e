"""What the task `denoise` is made of: sound files, pairs of clean and noisy signals, clips, a U-Net, pictures."""
