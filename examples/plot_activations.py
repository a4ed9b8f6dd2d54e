"""
Concepts in the activations of a network
========================================

A small network learns to read digits. A forward hook of PyTorch collects what its hidden layer
computes, and a dictionary takes these activations apart: every activation is a sum of a few
concepts, each with a weight ≥ 0. We name the concepts, remove one, and train the dictionary.

It needs ``pip install 'snmf[torch]'``.
"""

# %%
# The network, which learns from the first 1,200 images.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from snmf import MiniBatchSNMF
from snmf.torch import Dictionary

torch.manual_seed(0)
pixels, digits = load_digits(return_X_y=True)
images, digits = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits)
train, test = slice(0, 1200), slice(1200, None)

hidden, relu, last = torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
network = torch.nn.Sequential(hidden, relu, last)
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for _ in range(150):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(images[train]), digits[train]).backward()
    optimizer.step()
network.requires_grad_(False)


def recall():
    """The share of the test images of every digit that the network reads."""
    right = network(images[test]).argmax(dim=1) == digits[test]
    return torch.stack([right[digits[test] == digit].float().mean() for digit in range(10)])


before = recall()
print(f"the network reads {before.mean():.0%} of the other images")

# %%
# Collect and fit
# ---------------
#
# The hook keeps the output of the hidden layer, before its ReLU: numbers of either sign. The data
# go through the network in mini-batches, and so do the activations through the fit. Here they are
# few, and we give them five times.

activations = []
handle = hidden.register_forward_hook(lambda module, given, output: activations.append(output))
for batch in images[train].split(100):
    network(batch)
handle.remove()

concepts = Dictionary(MiniBatchSNMF(12, sparsity=0.03, random_state=0))
concepts.fit(iter(5 * activations))
activations = torch.cat(activations)
weights, reconstruction = concepts(activations)
error = (activations - reconstruction).norm() / activations.norm()
print(f"relative error {error:.2f}; {(weights == 0).float().mean():.0%} of the weights are zero")

# %%
# Name
# ----
#
# A concept is known by the images with its largest weights. Its name is the digit that most of the
# best 30 show.

best = weights.argsort(dim=0, descending=True)[:30].T
counts = torch.stack([digits[of_concept].bincount(minlength=10) for of_concept in best])
names, shares = counts.argmax(dim=1), counts.max(dim=1).values / 30

figure, axes = plt.subplots(12, 9, figsize=(6, 8), layout="constrained")
for row, of_concept, name, share in zip(axes, best, names, shares, strict=True):
    row[0].text(0, 0.3, f"{name} ({share:.0%})")
    row[0].axis("off")
    for ax, image in zip(row[1:], images[of_concept], strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray_r")
        ax.axis("off")

# %%
# Ablate
# ------
#
# A hook that returns a value replaces the output of the layer. This one removes what a concept
# contributes. If the network uses the concept, it then reads its digit less often.

purest = int(shares.argmax())


def without(module, given, output):
    return output - concepts.encode(output)[:, purest, None] * concepts.dictionary[purest]


handle = hidden.register_forward_hook(without)
after = recall()
handle.remove()

figure, ax = plt.subplots(figsize=(6, 2.5), layout="constrained")
ax.bar(torch.arange(10) - 0.2, before, 0.4, label="the network")
ax.bar(torch.arange(10) + 0.2, after, 0.4, label=f"without a concept of {names[purest]}")
ax.set(xlabel="digit", ylabel="share that it reads", xticks=range(10), ylim=(0, 1.25))
ax.legend(loc="upper center", ncols=2)

# %%
# Train through the head
# ----------------------
#
# The weights are exact, and so is their gradient. We train the dictionary until the rest of the
# network says of a reconstruction what it says of the activation. The network itself stays as it
# is.


def head(x):
    return last(relu(x))


def agreement(x):
    same = head(concepts(x)[1]).argmax(dim=1) == head(x).argmax(dim=1)
    return f"{same.float().mean():.1%}"


others = hidden(images[test])
print(f"same answer before: {agreement(activations)}, and of other images {agreement(others)}")
answers = head(activations).softmax(dim=1)
optimizer = torch.optim.Adam(concepts.parameters(), lr=0.02)
for _ in range(40):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(head(concepts(activations)[1]), answers).backward()
    optimizer.step()
print(f"same answer after: {agreement(activations)}, and of other images {agreement(others)}")
