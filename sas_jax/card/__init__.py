"""The world-model card: is this model worth imagining with?"""
